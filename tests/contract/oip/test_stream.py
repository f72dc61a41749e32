"""Rules of ModelStreamInfer: many requests at a time, a response each, in their order."""

import queue
from typing import Any

import grpc
import pytest
from tritonclient.grpc import InferenceServerClient, service_pb2, service_pb2_grpc
from tritonclient.utils import serialize_byte_tensor

from tests.contract.oip.requests import MINILM, RESNET, TIMEOUT_S, failure, inputs, strings


def request(id_: str, model: str = MINILM) -> service_pb2.ModelInferRequest:
    """A request of one sentence."""
    made = service_pb2.ModelInferRequest(model_name=model, id=id_)
    made.inputs.add(name="text", datatype="BYTES", shape=[1, 1])
    made.raw_input_contents.append(serialize_byte_tensor(strings(b"a sentence")).item())
    return made


@pytest.fixture
def stub(channel: grpc.Channel) -> service_pb2_grpc.GRPCInferenceServiceStub:
    return service_pb2_grpc.GRPCInferenceServiceStub(channel)


def test_responses_come_in_the_order_of_their_requests(
    client: InferenceServerClient, images: list[bytes]
) -> None:
    done: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(callback=lambda result, error: done.put((result, error)))
    for number in range(40):
        slow = number % 10 == 0
        feed = inputs(image=strings(images[0])) if slow else inputs(text=strings(b"a sentence"))
        client.async_stream_infer(RESNET if slow else MINILM, feed, request_id=str(number))
    for number in range(40):
        result, error = done.get(timeout=TIMEOUT_S)
        assert error is None
        assert result.get_response().id == str(number)
        dimensions = result.as_numpy("embedding").shape[1]
        assert dimensions == (2048 if number % 10 == 0 else 384)
    client.stop_stream()


def test_a_response_says_that_it_is_the_last_of_its_request(
    stub: service_pb2_grpc.GRPCInferenceServiceStub,
) -> None:
    (response,) = stub.ModelStreamInfer(iter([request("1")]), timeout=TIMEOUT_S)
    assert response.infer_response.parameters["triton_final_response"].bool_param


def test_an_error_is_a_response_of_its_requests_id_and_the_stream_goes_on(
    stub: service_pb2_grpc.GRPCInferenceServiceStub,
) -> None:
    requests = [request("7", "gpt"), request("8")]
    bad, good = stub.ModelStreamInfer(iter(requests), timeout=TIMEOUT_S)
    assert bad.error_message
    assert bad.infer_response.id == "7"
    assert not bad.infer_response.outputs
    assert (good.error_message, good.infer_response.id) == ("", "8")


def test_with_the_header_triton_grpc_error_the_first_error_ends_the_stream(
    stub: service_pb2_grpc.GRPCInferenceServiceStub,
) -> None:
    requests = [request("1"), request("2", "gpt"), request("3")]
    call = stub.ModelStreamInfer(
        iter(requests), metadata=[("triton_grpc_error", "true")], timeout=TIMEOUT_S
    )
    assert next(call).infer_response.id == "1"
    assert failure(next, call)[0] == "NOT_FOUND"


def test_a_message_that_is_no_protobuf_ends_the_stream_after_the_answers(
    channel: grpc.Channel,
) -> None:
    call = channel.stream_stream(
        "/inference.GRPCInferenceService/ModelStreamInfer",
        response_deserializer=service_pb2.ModelStreamInferResponse.FromString,
    )(iter([request("1").SerializeToString(), b"\xff garbage"]), timeout=TIMEOUT_S)
    assert next(call).infer_response.id == "1"
    assert failure(next, call)[0] == "INVALID_ARGUMENT"
