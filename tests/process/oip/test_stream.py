"""ModelStreamInfer: many requests at a time, a response each."""

import asyncio
import queue
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferResult, service_pb2, service_pb2_grpc
from tritonclient.grpc.aio import InferenceServerClient as AsyncClient

from tests.contract.oip.requests import failure, inputs
from tests.support.server_process import ServerProcess

TIMEOUT_S = 120


def row(value: float) -> np.ndarray:
    return np.full((1, 3), value, dtype=np.float32)


def test_many_outstanding_requests_are_answered_in_their_order(
    plain: InferenceServerClient,
) -> None:
    done: queue.Queue[Any] = queue.Queue()
    plain.start_stream(callback=lambda result, error: done.put((result, error)))
    for number in range(600):
        plain.async_stream_infer("versions", inputs(x=row(number)), request_id=str(number))
    for number in range(600):
        result, error = done.get(timeout=TIMEOUT_S)
        assert error is None
        assert result.get_response().id == str(number)
        assert np.array_equal(result.as_numpy("y"), row(number + 10))
        assert result.get_response().parameters["triton_final_response"].bool_param
    plain.stop_stream()


def test_an_error_is_a_response_and_the_stream_goes_on(plain: InferenceServerClient) -> None:
    done: queue.Queue[Any] = queue.Queue()
    plain.start_stream(callback=lambda result, error: done.put((result, error)))
    plain.async_stream_infer("versions", inputs(x=row(1)), request_id="good")
    plain.async_stream_infer("versions", inputs(x=row(1)[:, :2]), request_id="bad")
    plain.async_stream_infer(
        "versions", inputs(x=row(2)), request_id="better", enable_empty_final_response=True
    )
    first, bad, last = (done.get(timeout=TIMEOUT_S) for _ in range(3))
    plain.stop_stream()
    assert (first[1], last[1]) == (None, None)
    assert bad[1].message().startswith("[request id: bad] input 'x' has shape [1, 2]")
    assert np.array_equal(last[0].as_numpy("y"), row(12))
    assert done.empty()


def _request(model: str, id_: str, values: np.ndarray) -> service_pb2.ModelInferRequest:
    request = service_pb2.ModelInferRequest(model_name=model, id=id_)
    request.inputs.add(name="x", datatype="FP32", shape=values.shape)
    request.raw_input_contents.append(values.tobytes())
    return request


def test_an_error_has_the_requests_id(plain_server: ServerProcess) -> None:
    requests = [_request("gpt", "7", row(0)), _request("small", "8", row(0))]
    with grpc.insecure_channel(plain_server.address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        bad, good = stub.ModelStreamInfer(iter(requests), timeout=TIMEOUT_S)
    assert "no model 'gpt'" in bad.error_message
    assert bad.infer_response.id == "7"
    assert not bad.infer_response.outputs
    assert (good.error_message, good.infer_response.id) == ("", "8")


def test_with_the_header_the_first_error_ends_the_stream(plain_server: ServerProcess) -> None:
    requests = [
        _request("small", "1", row(0)),
        _request("small", "2", row(0)[:, :1]),
        _request("small", "3", row(0)[:, :2]),
        _request("small", "4", row(0)),
    ]
    with grpc.insecure_channel(plain_server.address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        call = stub.ModelStreamInfer(
            iter(requests), metadata=[("triton_grpc_error", "true")], timeout=TIMEOUT_S
        )
        assert next(call).infer_response.id == "1"
        code, message = failure(next, call)
    assert code == "INVALID_ARGUMENT"
    assert "shape [1, 1]" in message


def test_a_malformed_message_ends_the_stream_after_the_answers(plain_server: ServerProcess) -> None:
    good = _request("small", "1", row(0)).SerializeToString()
    with grpc.insecure_channel(plain_server.address) as channel:
        path = "/inference.GRPCInferenceService/ModelStreamInfer"
        call = channel.stream_stream(
            path, response_deserializer=service_pb2.ModelStreamInferResponse.FromString
        )(iter([good, b"\xff garbage"]), timeout=TIMEOUT_S)
        assert next(call).infer_response.id == "1"
        code, message = failure(next, call)
    assert (code, "ModelInferRequest" in message) == ("INVALID_ARGUMENT", True)


async def test_aio_stream(plain_server: ServerProcess) -> None:
    async def requests() -> AsyncIterator[dict[str, object]]:
        for number in range(50):
            yield {
                "model_name": "versions",
                "model_version": "1",
                "inputs": inputs(x=row(number)),
                "request_id": str(number),
            }

    async with AsyncClient(plain_server.address) as client:
        number = 0
        async for result, error in client.stream_infer(requests()):
            assert error is None
            assert np.array_equal(result.as_numpy("y"), row(number + 1))
            number += 1
    assert number == 50


async def test_a_client_that_leaves_costs_the_others_nothing(plain_server: ServerProcess) -> None:
    unanswered = plain_server.metric('vecserve_unanswered_items{graph="held/1"}')
    async with AsyncClient(plain_server.address) as client:

        def send(value: float) -> asyncio.Task[InferResult]:
            return asyncio.create_task(client.infer("held", inputs(x=row(value))))

        leaving = [send(0) for _ in range(8)]
        staying = [send(number) for number in range(8)]
        while await asyncio.to_thread(unanswered) != 16:
            pass
        for task in leaving:
            task.cancel()
        while await asyncio.to_thread(unanswered) != 8:
            pass
        # Seventeen rows are a full batch.
        staying += [send(number) for number in range(8, 17)]
        async with asyncio.timeout(TIMEOUT_S):
            results = await asyncio.gather(*staying)
    for number, result in enumerate(results):
        assert np.array_equal(result.as_numpy("y"), row(number + 1))


@pytest.fixture
def stopping_server(plain_repository: Path) -> Iterator[ServerProcess]:
    with ServerProcess(plain_repository) as process:
        yield process


def test_sigterm_answers_what_was_accepted(stopping_server: ServerProcess) -> None:
    sent: queue.Queue[Any] = queue.Queue()
    with grpc.insecure_channel(stopping_server.address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        unary = stub.ModelInfer.future(_request("unmasked", "unary", row(1)))
        call = stub.ModelStreamInfer(iter(sent.get, None), timeout=TIMEOUT_S)
        sent.put(_request("small", "first", row(1)))
        assert next(call).infer_response.id == "first"
        # It waits for batch-mates, and was sent before one that does not.
        sent.put(_request("unmasked", "held", row(1)))
        sent.put(_request("small", "last", row(1)))
        with InferenceServerClient(stopping_server.address) as client:
            while client.get_inference_statistics("small").model_stats[0].inference_count < 2:
                pass
        stopping_server.terminate()
        assert [next(call).infer_response.id for _ in range(2)] == ["held", "last"]
        code, _ = failure(next, call)
        assert code == "UNAVAILABLE"
        assert unary.result().id == "unary"
        sent.put(None)
    assert stopping_server.wait() == 0
