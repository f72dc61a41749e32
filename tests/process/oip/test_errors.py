"""Requests that do not fit: a precise code, and a sentence that says what to do."""

from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput, service_pb2
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from tests.contract.oip.requests import CLIP, MINILM, WHISPER, failure, inputs, outputs, strings
from tests.support.server_process import ServerProcess

X = np.zeros((1, 3), dtype=np.float32)
IDS = np.ones((1, 4), dtype=np.int64)
INT8 = {"model": "bytes", "name": "x_INT8", "datatype": "INT8"}
STRINGS = {"model": "strings", "name": "x_BYTES", "datatype": "BYTES", "shape": [1, 2]}


@pytest.mark.parametrize(
    ("model", "feeds", "options", "code", "says"),
    [
        ("gpt", {"x": X}, {}, "NOT_FOUND", "no model 'gpt'; this server has: alone,"),
        ("versions", {"x": X}, {"model_version": "3"}, "NOT_FOUND", "it has: 1, 2, 10"),
        ("versions", {"x": X}, {"model_version": "x"}, "NOT_FOUND", "no version 'x'"),
        ("small", {"z": X}, {}, "INVALID_ARGUMENT", "no input 'z'; the model has: x"),
        ("small", {}, {}, "INVALID_ARGUMENT", "also needs input x"),
        ("small", {"x": X, "w": X}, {}, "INVALID_ARGUMENT", "no input 'w'"),
        ("small", {"x": IDS}, {}, "INVALID_ARGUMENT", "is INT64, the model takes FP32"),
        ("small", {"x": X[0]}, {}, "INVALID_ARGUMENT", "shape [3], the model takes [batch, 3]"),
        ("small", {"x": X[:, :2]}, {}, "INVALID_ARGUMENT", "shape [1, 2], the model takes"),
        ("small", {"x": X[:0]}, {}, "INVALID_ARGUMENT", "no rows"),
        ("small", {"x": X.repeat(5, 0)}, {}, "INVALID_ARGUMENT", "5 rows, the model takes 4"),
        ("fixed", {"x": X}, {}, "INVALID_ARGUMENT", "shape [1, 3], the model takes [2, 3]"),
        (
            "masked",
            {"input_ids": IDS, "attention_mask": IDS[:, :3]},
            {},
            "INVALID_ARGUMENT",
            "axis 'sequence' is 4 in input 'input_ids' and 3 in 'attention_mask'",
        ),
        (
            "masked",
            {"input_ids": IDS * 1000, "attention_mask": IDS},
            {},
            "INVALID_ARGUMENT",
            "such as a token id outside its vocabulary",
        ),
        ("eight", {"x": np.ones((1, 9), np.float32)}, {}, "INVALID_ARGUMENT", "of this length"),
        (
            "small",
            {"x": X},
            {"outputs": outputs("z")},
            "INVALID_ARGUMENT",
            "no output 'z'; the model has: y",
        ),
        ("small", {"x": X}, {"outputs": outputs("y", "y")}, "INVALID_ARGUMENT", "name each once"),
        (
            "small",
            {"x": X},
            {"outputs": [InferRequestedOutput("y", class_count=3)]},
            "INVALID_ARGUMENT",
            "ranks no classes",
        ),
        ("small", {"x": X}, {"sequence_id": 5}, "INVALID_ARGUMENT", "'sequence_id'"),
        ("small", {"x": X}, {"parameters": {"pooling": "x"}}, "INVALID_ARGUMENT", "there are:"),
        ("masked", {"input_ids": IDS, "attention_mask": IDS}, {"timeout": 1}, "DEADLINE_", ""),
        ("strings", {"x_BYTES": strings(b"a", b"\xff", shape=(1, 2))}, {}, "INVALID", "UTF-8"),
    ],
)
def test_what_does_not_fit_is_refused(
    plain: InferenceServerClient,
    model: str,
    feeds: dict[str, np.ndarray],
    options: dict[str, object],
    code: str,
    says: str,
) -> None:
    got, message = failure(plain.infer, model, inputs(**feeds), **options)
    assert got.startswith(code), message
    assert says in message


@pytest.mark.parametrize(
    ("model", "feeds", "says"),
    [
        (MINILM, {"image": strings(b"x")}, "no input 'image'; the model has: text"),
        (MINILM, {"text": strings(b"\xff")}, "item 0: the text is not UTF-8"),
        (MINILM, {"text": IDS}, "is INT64, the model takes BYTES"),
        (MINILM, {"text": strings(b"a", b"b", shape=(1, 2))}, "the model takes [-1, 1] or [-1]"),
        (CLIP, {"text": strings(b"a"), "image": strings(b"a")}, "send one of text, image"),
        (CLIP, {}, "has 0 inputs"),
        (
            f"{MINILM}.text",
            {"input_ids": np.ones((1, 257), np.int64), "attention_mask": np.ones((1, 257), int)},
            "257 positions, the model takes 256",
        ),
        (
            f"{MINILM}.text",
            {"input_ids": IDS * 30_522, "attention_mask": IDS},
            "'input_ids' holds numbers from 30522 to 30522, the model takes 0 to 30521",
        ),
        (
            f"{MINILM}.text",
            {"input_ids": np.array([[101, -1, 102]]), "attention_mask": np.ones((1, 3), int)},
            "'input_ids' holds numbers from -1 to 102, the model takes 0 to 30521",
        ),
        (
            f"{MINILM}.text",
            {"input_ids": IDS, "attention_mask": IDS * 2},
            "'attention_mask' holds numbers from 2 to 2, the model takes 0 to 1",
        ),
        (
            f"{WHISPER}.audio",
            {"waveform": np.zeros((1, 480_000), np.float32), "lengths": np.array([0])},
            "'lengths' holds numbers from 0 to 0, the model takes 1 to 480000",
        ),
        (
            f"{WHISPER}.audio",
            {"waveform": np.full((1, 480_000), np.nan, np.float32), "lengths": np.array([9])},
            "'waveform' holds numbers from nan to nan, the model takes -1000000 to 1000000",
        ),
        (
            f"{MINILM}.text",
            {"input_ids": IDS.repeat(2, 0), "attention_mask": np.array([[1] * 4, [0] * 4])},
            "mark at least one position",
        ),
        (
            f"{MINILM}.text",
            {"input_ids": np.ones((129, 1), np.int64), "attention_mask": np.ones((129, 1), int)},
            "129 rows, the model takes 128",
        ),
    ],
)
def test_what_does_not_fit_a_bundle_is_refused(
    client: InferenceServerClient, model: str, feeds: dict[str, np.ndarray], says: str
) -> None:
    code, message = failure(client.infer, model, inputs(**feeds))
    assert code == "INVALID_ARGUMENT"
    assert says in message


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"raw": [b"12345678901"]}, "takes 12 bytes, it has 11"),
        ({"raw": [b"", b""]}, "1 inputs are not in shared memory"),
        ({"shape": [1, -3]}, "no axis below 0"),
        ({"shape": [2**62, 0, 3]}, "x"),
        ({"datatype": "FP12"}, "is 'FP12'; there are: BOOL"),
        ({"contents": {"fp32_contents": [1, 2]}}, "3 elements, 2 were sent"),
        ({"contents": {"int_contents": [1, 2, 3]}}, "goes in fp32_contents, not in int_contents"),
        (INT8 | {"contents": {"int_contents": [1, 2, 300]}}, "from -128 to 127"),
        (STRINGS | {"raw": [b"\xff\0\0\0x"]}, "element 0 ends 254 bytes after"),
        (STRINGS | {"raw": [b"\1\0"]}, "4 little-endian bytes"),
        (STRINGS | {"raw": [bytes(12)]}, "2 elements, more were sent"),
        ({"shape": [1] * 65}, "65 axes"),
        ({"raw": [bytes(12)], "contents": {"fp32_contents": [1, 2, 3]}}, "send one of them"),
        ({"raw": [], "contents": {}}, "3 elements, 0 were sent"),
    ],
)
def test_tensors_that_are_broken_are_refused(
    plain_server: ServerProcess, change: dict[str, Any], says: str
) -> None:
    request = service_pb2.ModelInferRequest(model_name=change.get("model", "small"))
    datatype = change.get("datatype", "FP32")
    tensor = request.inputs.add(name=change.get("name", "x"), datatype=datatype)
    tensor.shape.extend(change.get("shape", [1, 3]))
    if "contents" in change:
        tensor.contents.CopyFrom(service_pb2.InferTensorContents(**change["contents"]))
        tensor.contents.SetInParent()
    request.raw_input_contents.extend(change.get("raw", [] if "contents" in change else [b""]))
    with grpc.insecure_channel(plain_server.address) as channel:
        code, message = failure(GRPCInferenceServiceStub(channel).ModelInfer, request)
    assert code == "INVALID_ARGUMENT"
    assert says in message


def test_malformed_protobuf(plain_server: ServerProcess) -> None:
    garbage = b"\xff\xff\xff\xff garbage"
    service = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    with grpc.insecure_channel(plain_server.address) as channel:
        for method in service.methods:
            path = f"/{service.full_name}/{method.name}"
            if method.name == "ModelStreamInfer":
                code, message = failure(
                    lambda p: list(channel.stream_stream(p)(iter([garbage]))), path
                )
            else:
                code, message = failure(channel.unary_unary(path), garbage)
            assert code == "INVALID_ARGUMENT", method.name
            assert method.input_type.full_name in message


def test_what_is_wrong_is_quoted_in_part(plain_server: ServerProcess) -> None:
    """The status of a call travels as metadata, of which clients take 8 KiB."""
    long = "ü" * 1_000_000
    tensor = service_pb2.ModelInferRequest.InferInputTensor
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({"model_name": long}, "NOT_FOUND", "this server has"),
        ({"model_version": long}, "NOT_FOUND", "it has: 1"),
        ({"id": long}, "INVALID_ARGUMENT", "id has at most"),
        ({"inputs": [tensor(name=long, datatype="FP32")]}, "INVALID_ARGUMENT", "model has: x"),
        ({"inputs": [tensor(name="x", datatype=long)]}, "INVALID_ARGUMENT", "BOOL"),
        ({"inputs": [tensor(name="x", shape=[2**60] * 64)]}, "INVALID_ARGUMENT", ""),
        ({"parameters": {"pooling": {"string_param": long}}}, "INVALID_ARGUMENT", ""),
    ]
    with grpc.insecure_channel(plain_server.address) as channel:
        stub = GRPCInferenceServiceStub(channel)
        for change, code, says in cases:
            request = service_pb2.ModelInferRequest(**{"model_name": "small"} | change)
            got, message = failure(stub.ModelInfer, request)
            assert got == code, message
            assert says in message
        request = service_pb2.ModelInferRequest(model_name="small", id=long)
        (answer,) = stub.ModelStreamInfer(iter([request]))
    assert len(answer.infer_response.id.encode()) <= 1024
    assert "id has at most" in answer.error_message


def test_inputs_that_come_twice(plain: InferenceServerClient) -> None:
    (x,) = inputs(x=X)
    (again,) = inputs(x=X)
    assert isinstance(x, InferInput)
    code, message = failure(plain.infer, "small", [x, again])
    assert (code, "twice" in message) == ("INVALID_ARGUMENT", True)


def test_features_that_are_off(plain: InferenceServerClient) -> None:
    """Codes and words are those of a Triton that was built without them."""
    for call in (plain.get_trace_settings, plain.update_trace_settings):
        assert failure(call) == ("UNAVAILABLE", "the server does not support tracing")
    for call in (plain.get_log_settings, lambda: plain.update_log_settings({"log_info": True})):
        code, message = failure(call)
        assert code == "UNAVAILABLE"
        assert message.startswith("the server does not support dynamic logging")
    code, message = failure(plain.register_cuda_shared_memory, "a", b"", 0, 8)
    assert code == "INVALID_ARGUMENT"
    assert message.startswith(
        "failed to register CUDA shared memory region: 'a', GPUs not supported"
    )
    assert not plain.get_cuda_shared_memory_status().regions
    assert failure(plain.get_cuda_shared_memory_status, "a")[0] == "NOT_FOUND"
    plain.unregister_cuda_shared_memory()
