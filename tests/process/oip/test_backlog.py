"""What waits for a model is bounded: calls are refused, streams are held back."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.rpc import code_pb2, error_details_pb2
from grpc_status import rpc_status
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.process.oip.graphs import add, save
from tests.support.held_queue import held_until
from tests.support.server_process import ServerProcess

TIMEOUT_S = 120
# Floats of a row: 1.6 MB.
WIDTH = 400_000
ROW = np.zeros((1, WIDTH), dtype=np.float32)


def request(model: str, id_: str, values: np.ndarray) -> service_pb2.ModelInferRequest:
    made = service_pb2.ModelInferRequest(model_name=model, id=id_)
    made.inputs.add(name="x", datatype="FP32", shape=values.shape)
    made.raw_input_contents.append(values.tobytes())
    return made


def computed(stub: service_pb2_grpc.GRPCInferenceServiceStub, model: str) -> int:
    """How many requests to a model have been computed."""
    asked = service_pb2.ModelStatisticsRequest(name=model)
    (stats,) = stub.ModelStatistics(asked, timeout=TIMEOUT_S).model_stats
    return int(stats.inference_stats.success.count)


def test_a_call_to_a_full_queue_is_refused_and_told_when_to_come_back(tmp_path: Path) -> None:
    # Two rows are a full batch and run at once; one is held back.
    config = held_until(2) | {"warm_up": False}
    save(tmp_path, "held", add(1, ["batch", WIDTH]), config=config)
    with (
        ServerProcess(tmp_path, "--max-queue-mb", "2") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        held = stub.ModelInfer.future(request("held", "held", ROW))
        unanswered = server.metric('vecserve_unanswered_items{graph="held/1"}')
        while unanswered() != 1:
            pass
        with pytest.raises(grpc.RpcError) as failure:
            stub.ModelInfer(request("held", "refused", ROW), timeout=TIMEOUT_S)
        status = rpc_status.from_call(failure.value)
        assert status.code == code_pb2.RESOURCE_EXHAUSTED
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        assert status.details[0].Unpack(info)
        assert info.reason == "QUEUE_FULL"
        assert status.details[1].Unpack(retry)
        # What is cancelled counts no longer.
        held.cancel()
        while unanswered() != 0:
            pass
        answer = stub.ModelInfer(request("held", "taken", ROW.repeat(2, 0)), timeout=TIMEOUT_S)
        assert answer.id == "taken"


def test_a_stream_that_is_not_read_is_held_back_and_others_are_served(tmp_path: Path) -> None:
    save(tmp_path, "wide", add(1, ["batch", WIDTH]))
    save(tmp_path, "small", add(1, ["batch", 3]))
    count, limit = 40, 4
    sent = 0

    def requests() -> Iterator[service_pb2.ModelInferRequest]:
        nonlocal sent
        for number in range(count):
            sent += 1
            yield request("wide", str(number), ROW)

    with (
        ServerProcess(tmp_path, "--max-stream-items", str(limit)) as server,
        # Without probes the client's window stays at 64 KiB: no unread response fits.
        grpc.insecure_channel(server.address, [("grpc.http2.bdp_probe", 0)]) as channel,
    ):
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        call = stub.ModelStreamInfer(requests(), timeout=TIMEOUT_S)
        while computed(stub, "wide") < limit:
            pass
        # Calls of the same connection travel behind what the stream could send, and each runs
        # the server's event loop: if one more were accepted, it would have been by now.
        for _ in range(200):
            stub.ModelInfer(request("small", "", np.zeros((1, 3), np.float32)), timeout=TIMEOUT_S)
        assert computed(stub, "wide") == limit
        # The server's window lets some more megabytes out of the client, not all of them.
        assert sent < count
        assert [response.infer_response.id for response in call] == [str(n) for n in range(count)]
    assert sent == count
