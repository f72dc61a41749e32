"""Runs that do not end: they cost their own caller the answer, and nobody else anything."""

import re
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from tests.contract.embedding.requests import (
    MINILM,
    TIMEOUT_S,
    error,
    message,
    rpc_error,
    stream,
    text,
    vector,
)
from tests.process.oip.graphs import add, save, save_text_bundle
from tests.support.hanging_graphs import (
    FOR_EVER,
    FOR_MINUTES,
    comparing,
    counting,
    hang_on_unknown_token,
    never_ending,
)
from tests.support.held_queue import held_until
from tests.support.server_process import ServerProcess
from vecserve.v1.embedding_pb2_grpc import EmbeddingServiceStub

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
TIMED_OUT = ("INTERNAL", "BATCH_TIMED_OUT")
SOON = ("--max-batch-s", "1")
# A graph measured on a busy machine may seem to gain nothing from sharing batches, and not share.
UNMEASURED = {"warm_up": False}
# Longer than any test: what ends before was not ended by the clock.
LATE = ("--max-batch-s", "10000")


def steps(*counts: int, model: str = "counting") -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name=model)
    request.inputs.add(name="steps", datatype="INT64", shape=[len(counts), 1])
    request.raw_input_contents.append(np.array(counts, dtype="<i8").tobytes())
    return request


def answer(response: pb.ModelInferResponse) -> list[int]:
    values: list[int] = np.frombuffer(response.raw_output_contents[0], dtype="<i8").tolist()
    return values


def failure(call: grpc.Future) -> tuple[str, str]:
    """Code and reason of a call that must fail."""
    with pytest.raises(grpc.RpcError) as caught:
        call.result(TIMEOUT_S)
    return rpc_error(caught.value)[:2]


def is_running(server: ServerProcess) -> bool:
    return server.metric("vecserve_oldest_batch_seconds")() > 0


def test_a_run_that_takes_too_long_is_ended_and_the_server_goes_on(tmp_path: Path) -> None:
    save(tmp_path, "counting", counting())
    save(tmp_path, "adds", add(1, ["batch", 3]))
    with (
        ServerProcess(tmp_path, *SOON, "--compute-cores", "2") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = GRPCInferenceServiceStub(channel)
        # One for each core.
        hung = [stub.ModelInfer.future(steps(FOR_EVER + n)) for n in range(2)]
        assert [failure(call) for call in hung] == [TIMED_OUT] * 2
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", "counting"):
            assert health.Check(health_pb2.HealthCheckRequest(service=name)).status == SERVING
        assert answer(stub.ModelInfer(steps(7), timeout=TIMEOUT_S)) == [7]
        assert not is_running(server)
        timed_out = server.metric('vecserve_timed_out_batches_total{graph="counting/1"}')
        assert timed_out() >= 2


def test_batch_mates_of_a_run_that_is_ended_are_answered(tmp_path: Path) -> None:
    save(tmp_path, "counting", counting(), config=held_until(4) | UNMEASURED)
    with (
        ServerProcess(tmp_path, *SOON, "--compute-cores", "1") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = GRPCInferenceServiceStub(channel)
        calls = [stub.ModelInfer.future(steps(count)) for count in (1, FOR_EVER, 2, 3)]
        assert failure(calls.pop(1)) == TIMED_OUT
        assert [answer(call.result(TIMEOUT_S)) for call in calls] == [[1], [2], [3]]


def test_a_run_that_nobody_waits_for_is_ended(tmp_path: Path) -> None:
    save(tmp_path, "counting", counting(), config=held_until(2) | UNMEASURED)
    with (
        ServerProcess(tmp_path, *LATE, "--compute-cores", "1") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = GRPCInferenceServiceStub(channel)
        both = [stub.ModelInfer.future(steps(count)) for count in (FOR_EVER, 1)]
        while not is_running(server):
            pass
        both[0].cancel()
        # The other one still waits.
        unanswered = server.metric('vecserve_unanswered_items{graph="counting/1"}')
        while unanswered() != 1:
            pass
        assert is_running(server)
        both[1].cancel()
        assert answer(stub.ModelInfer(steps(3, 4), timeout=TIMEOUT_S)) == [3, 4]


def test_a_run_whose_callers_deadlines_have_passed_is_ended(tmp_path: Path) -> None:
    save(tmp_path, "counting", counting())
    with (
        ServerProcess(tmp_path, *LATE, "--compute-cores", "1") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(steps(FOR_EVER), timeout=1)
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert answer(stub.ModelInfer(steps(3), timeout=TIMEOUT_S)) == [3]


def test_sigterm_ends_runs_that_do_not_end(tmp_path: Path) -> None:
    save(tmp_path, "counting", counting())
    with (
        ServerProcess(tmp_path, *LATE, "--shutdown-grace-s", "0.5") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = GRPCInferenceServiceStub(channel)
        hung = stub.ModelInfer.future(steps(FOR_EVER))
        while not is_running(server):
            pass
        assert server.stop() == 0
        assert server.log.rstrip().endswith("stopped")
        assert hung.exception(TIMEOUT_S)


def test_sigterm_ends_a_load_that_does_not_end(tmp_path: Path) -> None:
    save(tmp_path, "hangs", never_ending())
    with ServerProcess(tmp_path, *LATE, until="listening on") as server:
        while not is_running(server):
            pass
        assert server.stop() == 0
        assert "Traceback" not in server.log


def test_a_run_that_cannot_be_ended_shows_in_health_and_is_left_at_the_end(tmp_path: Path) -> None:
    save(tmp_path, "comparing", comparing())
    save(tmp_path, "adds", add(1, ["batch", 3]))
    # Watches have a second to hear of the end.
    flags = (*SOON, "--compute-cores", "2", "--shutdown-grace-s", "1")
    with (
        ServerProcess(tmp_path, *flags) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        health = health_pb2_grpc.HealthStub(channel)
        whole, comparing_, adds = (
            health.Watch(health_pb2.HealthCheckRequest(service=name))
            for name in ("", "comparing", "adds")
        )
        for watch in (whole, comparing_, adds):
            assert next(watch).status == SERVING
        stub = GRPCInferenceServiceStub(channel)
        hung = stub.ModelInfer.future(steps(FOR_MINUTES, model="comparing"))
        assert next(comparing_).status == NOT_SERVING
        # Its caller need not wait for the end of it, nor others.
        assert failure(hung) == TIMED_OUT
        assert next(whole).status == NOT_SERVING
        assert answer(stub.ModelInfer(steps(1, model="comparing"), timeout=TIMEOUT_S)) == [1]
        assert server.stop() == 3
        assert "ended 3 s after the grace with work unfinished" in server.log
        assert next(adds).status == NOT_SERVING


def test_a_run_that_waits_for_one_that_cannot_be_ended_is_given_up(tmp_path: Path) -> None:
    save(tmp_path, "comparing", comparing(), config={"instances": 1})
    flags = (*SOON, "--compute-cores", "2", "--shutdown-grace-s", "0")
    with (
        ServerProcess(tmp_path, *flags) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = GRPCInferenceServiceStub(channel)
        hung = stub.ModelInfer.future(steps(FOR_MINUTES, model="comparing"))
        while not is_running(server):
            pass
        waits = stub.ModelInfer.future(steps(1, model="comparing"))
        assert [failure(call) for call in (hung, waits)] == [TIMED_OUT] * 2
        assert server.stop() == 3


def test_health_comes_back_when_a_run_ends_after_all(tmp_path: Path) -> None:
    save(tmp_path, "comparing", comparing())
    with (
        ServerProcess(tmp_path, *SOON, "--compute-cores", "1") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        watches = [
            health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=name))
            for name in ("", "comparing")
        ]
        stub = GRPCInferenceServiceStub(channel)
        # Some seconds.
        hung = stub.ModelInfer.future(steps(100_000, model="comparing"))
        for watch in watches:
            statuses = [next(watch).status for _ in range(3)]
            assert statuses == [SERVING, NOT_SERVING, SERVING]
        assert failure(hung) == TIMED_OUT
        assert answer(stub.ModelInfer(steps(5, model="comparing"), timeout=TIMEOUT_S)) == [5]


def test_a_model_that_hangs_while_it_loads_is_left_out(tmp_path: Path) -> None:
    save(tmp_path, "adds", add(1, ["batch", 3]))
    save(tmp_path, "hangs", never_ending())
    with (
        ServerProcess(tmp_path, *SOON, until="serving 1 models, ready") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        assert "not served: hangs version 1: " in server.log
        stub = GRPCInferenceServiceStub(channel)
        listed = stub.RepositoryIndex(pb.RepositoryIndexRequest()).models
        states = {model.name: (model.state, model.reason) for model in listed}
        assert states["adds"] == ("READY", "")
        assert states["hangs"][0] == "UNAVAILABLE"
        assert "did not end within 1 s" in states["hangs"][1]
        health = health_pb2_grpc.HealthStub(channel)
        expected = {"": SERVING, "adds": SERVING, "hangs": NOT_SERVING}
        for name, status in expected.items():
            assert health.Check(health_pb2.HealthCheckRequest(service=name)).status == status


@pytest.mark.parametrize("stuck", [False, True])
def test_a_model_that_hangs_while_it_is_loaded_again_stays_as_it_was(
    tmp_path: Path, stuck: bool
) -> None:
    save(tmp_path, "model", counting())
    with (
        ServerProcess(tmp_path, *SOON, "--shutdown-grace-s", "0") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = GRPCInferenceServiceStub(channel)
        save(tmp_path, "model", comparing(at_least=FOR_MINUTES) if stuck else never_ending())
        load = pb.RepositoryModelLoadRequest(model_name="model")
        refused = stub.RepositoryModelLoad.future(load)
        assert failure(refused) == ("FAILED_PRECONDITION", "LOAD_FAILED")
        assert answer(stub.ModelInfer(steps(2, model="model"), timeout=TIMEOUT_S)) == [2]
        health = health_pb2_grpc.HealthStub(channel)
        assert health.Check(health_pb2.HealthCheckRequest(service="model")).status == SERVING
        # And the next load is not kept waiting.
        save(tmp_path, "model", counting())
        stub.RepositoryModelLoad(load, timeout=TIMEOUT_S)
        assert answer(stub.ModelInfer(steps(3, model="model"), timeout=TIMEOUT_S)) == [3]
        assert server.stop() == (3 if stuck else 0)


def test_a_load_whose_caller_left_ends_before_the_next_one_begins(tmp_path: Path) -> None:
    for name in ("first", "second"):
        save(tmp_path, name, counting())
    with (
        ServerProcess(tmp_path, "--max-batch-s", "2") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = GRPCInferenceServiceStub(channel)
        save(tmp_path, "first", never_ending())
        left = stub.RepositoryModelLoad.future(pb.RepositoryModelLoadRequest(model_name="first"))
        while not is_running(server):
            pass
        left.cancel()
        load = pb.RepositoryModelLoadRequest(model_name="second")
        stub.RepositoryModelLoad(load, timeout=TIMEOUT_S)
        assert re.search("not loaded again: first: .*loaded again: second", server.log, re.DOTALL)
        assert answer(stub.ModelInfer(steps(3, model="first"), timeout=TIMEOUT_S)) == [3]


def test_an_item_of_a_stream_is_answered_at_its_deadline_and_its_run_ended(
    repository: Path, tmp_path: Path
) -> None:
    save_text_bundle(tmp_path, "small", repository / MINILM / "1", max_batch_rows=4, word="poison")
    hang_on_unknown_token(tmp_path / "small" / "1")
    with (
        ServerProcess(tmp_path, *LATE, "--compute-cores", "1") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = EmbeddingServiceStub(channel)
        hung = message("small", text("hung", "poison"), timeout=Duration(seconds=1))
        results = list(stream(stub, [hung, message("small", text("after"))]))
        assert [result.item_id for result in results] == ["hung", "after"]
        assert error(results[0])[:2] == ("DEADLINE_EXCEEDED", "DEADLINE_MISSED")
        assert vector(results[1]).shape == (8,)
