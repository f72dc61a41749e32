"""What the parameters `priority` and `timeout` do."""

import queue
from pathlib import Path

import grpc
import numpy as np
from tritonclient.grpc import InferenceServerClient, service_pb2, service_pb2_grpc

from tests.contract.oip.requests import failure, inputs, tokens
from tests.process.oip.graphs import mean_of_numbers, save
from tests.support import held_queue
from tests.support.server_process import ServerProcess

ROWS = 8


def request(priority: int, length: int) -> service_pb2.ModelInferRequest:
    made = service_pb2.ModelInferRequest(model_name="held")
    made.parameters["priority"].uint64_param = priority
    made.inputs.add(name="x", datatype="FP32", shape=[1, length])
    made.raw_input_contents.append(np.zeros(length, np.float32).tobytes())
    return made


def test_priority_1_goes_before_what_came_earlier(tmp_path: Path) -> None:
    # Rows of different lengths run one by one: nothing masks padding.
    save(tmp_path, "held", mean_of_numbers(), config=held_queue.held_until(ROWS))
    answered: queue.Queue[int] = queue.Queue()
    with (
        ServerProcess(tmp_path, *held_queue.FLAGS) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        unanswered = server.metric('vecserve_unanswered_items{graph="held/1"}')
        infer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer

        def send(priority: int, length: int) -> grpc.Future:
            call = infer.future(request(priority, length))
            call.add_done_callback(lambda _: answered.put(priority))
            return call

        calls = [send(2, length) for length in range(1, ROWS)]
        while unanswered() != ROWS - 1:
            pass
        # With this one they are a full batch: all are let go.
        calls.append(send(1, ROWS))
        priorities = [answered.get() for _ in calls]
        for call in calls:
            call.result()
    # Of one caller, what comes last is else answered last.
    assert priorities == [1] + [2] * (ROWS - 1)


def test_timeout_is_in_microseconds(plain: InferenceServerClient) -> None:
    # Takes far longer than 20 ms and, on a busy machine too, far less than 200 s.
    feeds = inputs(**tokens(np.random.default_rng(0), 32, 256, 30_000))
    code, _ = failure(plain.infer, "transformer", feeds, timeout=20_000)
    assert code == "DEADLINE_EXCEEDED"
    assert plain.infer("transformer", feeds, timeout=200_000_000).as_numpy("pooled").shape[0] == 32
