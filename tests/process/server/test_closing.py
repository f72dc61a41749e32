"""Callers that never pause, or never leave, while the server stops: each is told why."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.contract.embedding.requests import (
    MINILM,
    TIMEOUT_S,
    embed,
    message,
    rpc_error,
    stream,
    text,
)
from tests.process.oip.graphs import add, save
from tests.support.server_process import STOP_TIMEOUT_S, ServerProcess
from vecserve.v1.embedding_pb2_grpc import EmbeddingServiceStub

Call = Callable[[grpc.Channel], object]


def tensors() -> service_pb2.ModelInferRequest:
    request = service_pb2.ModelInferRequest(model_name=MINILM)
    contents = service_pb2.InferTensorContents(bytes_contents=[b"a sentence"])
    request.inputs.add(name="text", datatype="BYTES", shape=[1], contents=contents)
    return request


def infer(channel: grpc.Channel) -> object:
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    return stub.ModelInfer(tensors(), timeout=TIMEOUT_S)


def infer_by_stream(channel: grpc.Channel) -> object:
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    return list(stub.ModelStreamInfer(iter([tensors()]), timeout=TIMEOUT_S))


def embed_by_stream(channel: grpc.Channel) -> object:
    return list(stream(EmbeddingServiceStub(channel), [message(MINILM, text("a"))]))


CALLS: dict[str, Call] = {
    "Embed": lambda channel: embed(EmbeddingServiceStub(channel), MINILM, text("a")),
    "EmbedStream": embed_by_stream,
    "ModelInfer": infer,
    "ModelStreamInfer": infer_by_stream,
}


def call_until_it_fails(address: str, call: Call, warm: threading.Barrier) -> grpc.RpcError:
    """Call, and call again as soon as there is an answer; return why that ended."""
    with grpc.insecure_channel(address) as channel:
        call(channel)
        warm.wait(TIMEOUT_S)
        while True:
            try:
                call(channel)
            except grpc.RpcError as failure:
                return failure


def test_callers_that_never_pause_are_told_that_the_server_stops(
    repository_of: Callable[..., Path],
) -> None:
    callers = [name for name in CALLS for _ in range(8)]
    warm = threading.Barrier(len(callers) + 1)
    with (
        ServerProcess(repository_of(MINILM)) as server,
        ThreadPoolExecutor(len(callers)) as threads,
    ):
        calling = [
            threads.submit(call_until_it_fails, server.address, CALLS[name], warm)
            for name in callers
        ]
        warm.wait(TIMEOUT_S)
        server.terminate()
        assert server.wait() == 0
        ends = [(name, future.result()) for name, future in zip(callers, calling, strict=True)]
    codes = {(name, failure.code()) for name, failure in ends}
    assert codes == {(name, grpc.StatusCode.UNAVAILABLE) for name in CALLS}
    # Who was late to call again found nobody there: gRPC says so, without a reason of ours.
    told = {
        (name, rpc_error(failure)[1]) for name, failure in ends if rpc_status.from_call(failure)
    }
    assert told == {(name, "SHUTTING_DOWN") for name in CALLS}


def test_streams_that_are_kept_open_for_ever_end_when_the_server_stops(tmp_path: Path) -> None:
    save(tmp_path, "adds", add(1, ["batch", 3]))
    with (
        # The server waits for streams so long: longer than the test waits for it.
        ServerProcess(tmp_path, "--shutdown-grace-s", str(2 * STOP_TIMEOUT_S)) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        health = health_pb2_grpc.HealthStub(channel)
        watch = health.Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        questions: queue.Queue[reflection_pb2.ServerReflectionRequest | None] = queue.Queue()
        questions.put(reflection_pb2.ServerReflectionRequest(list_services=""))
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        answers = reflection.ServerReflectionInfo(iter(questions.get, None))
        assert next(answers).list_services_response.service
        assert server.stop() == 0
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.RpcError) as failure:
            next(watch)
        assert rpc_error(failure.value)[:2] == ("UNAVAILABLE", "SHUTTING_DOWN")
        assert list(answers) == []
        questions.put(None)
