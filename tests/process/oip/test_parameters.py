"""What the parameters `priority` and `timeout` do."""

import grpc
import numpy as np
from tritonclient.grpc import InferenceServerClient, service_pb2, service_pb2_grpc

from tests.contract.oip.requests import TIMEOUT_S, failure, inputs, tokens
from tests.support.server_process import ServerProcess


def request(priority: int) -> service_pb2.ModelInferRequest:
    made = service_pb2.ModelInferRequest(model_name="one-by-one")
    made.parameters["priority"].uint64_param = priority
    made.outputs.add(name="pooled")
    for name, values in tokens(np.random.default_rng(0), 1, 256, 30_000).items():
        made.inputs.add(name=name, datatype="INT64", shape=values.shape)
        made.raw_input_contents.append(values.tobytes())
    return made


def test_priority_1_goes_before_what_came_earlier(plain_server: ServerProcess) -> None:
    unanswered = plain_server.metric('vecserve_unanswered_items{graph="one-by-one/1"}')
    with grpc.insecure_channel(plain_server.address) as channel:
        infer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer
        waiting = [infer.future(request(2), timeout=TIMEOUT_S) for _ in range(60)]
        while unanswered() < 40:
            pass
        infer(request(1), timeout=TIMEOUT_S)
        # Of one caller, what comes last is else answered last.
        assert unanswered() > 20
        for call in waiting:
            call.result()


def test_timeout_is_in_microseconds(plain: InferenceServerClient) -> None:
    # Takes far longer than 20 ms and far less than 20 s.
    feeds = inputs(**tokens(np.random.default_rng(0), 32, 256, 30_000))
    code, _ = failure(plain.infer, "transformer", feeds, timeout=20_000)
    assert code == "DEADLINE_EXCEEDED"
    assert plain.infer("transformer", feeds, timeout=20_000_000).as_numpy("pooled").shape[0] == 32
