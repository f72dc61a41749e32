"""ModelInfer: tensors in, tensors out, exactly those of ONNX Runtime."""

import queue
from pathlib import Path
from typing import Any

import grpc
import ml_dtypes
import numpy as np
import pytest
from tritonclient.grpc import (
    InferenceServerClient,
    InferRequestedOutput,
    service_pb2,
    service_pb2_grpc,
)

from tests.contract.oip.requests import (
    MINILM,
    RESNET,
    TIMEOUT_S,
    WHISPER,
    failure,
    inputs,
    outputs,
    run,
    strings,
    tokens,
)
from tests.process.oip.graphs import NUMBERS
from tests.support.server_process import ServerProcess


@pytest.mark.parametrize(("rows", "length"), [(1, 7), (3, 18), (8, 64)])
def test_text_graph_equals_onnx_runtime(
    client: InferenceServerClient, repository: Path, rows: int, length: int
) -> None:
    feeds = tokens(np.random.default_rng(rows), rows, length, 30_000)
    result = client.infer(f"{MINILM}.text", inputs(**feeds), request_id="the id")
    expected = run(repository / MINILM / "1" / "text.onnx", **feeds)
    assert [output.name for output in result.get_response().outputs] == list(expected)
    for name, values in expected.items():
        assert np.array_equal(result.as_numpy(name), values)
    response = result.get_response()
    assert (response.id, response.model_version) == ("the id", "1")
    assert response.model_name == f"{MINILM}.text"
    assert len(response.raw_output_contents) == 3


def test_image_and_audio_graphs_equal_onnx_runtime(
    client: InferenceServerClient, repository: Path
) -> None:
    rng = np.random.default_rng(0)
    pixels = {"pixels": rng.integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)}
    got = client.infer(f"{RESNET}.image", inputs(**pixels)).as_numpy("pooled")
    want = run(repository / RESNET / "1" / "image.onnx", **pixels)["pooled"]
    assert np.array_equal(got, want)
    sound = {
        "waveform": rng.standard_normal((1, 480_000)).astype(np.float32),
        "lengths": np.array([480_000]),
    }
    wanted = outputs("last_hidden_state")
    result = client.infer(f"{WHISPER}.audio", inputs(**sound), outputs=wanted)
    want = run(repository / WHISPER / "1" / "audio.onnx", **sound)["last_hidden_state"]
    assert np.array_equal(result.as_numpy("last_hidden_state"), want)


def test_every_datatype_goes_through_unchanged(plain: InferenceServerClient) -> None:
    feeds = {f"x_{name}": _values(dtype) for name, (_, dtype) in NUMBERS.items()}
    result = plain.infer("numbers", inputs(**feeds))
    for name in NUMBERS:
        got = result.as_numpy(f"y_{name}")
        assert got.dtype == feeds[f"x_{name}"].dtype
        assert np.array_equal(got, feeds[f"x_{name}"])
    text = strings(b"", "häuser".encode(), b"x" * 1000, b"\0", shape=(2, 2))
    assert np.array_equal(plain.infer("strings", inputs(x_BYTES=text)).as_numpy("y_BYTES"), text)
    halves = np.array([[1, -2.5, 0], [3e38, 1e-38, 0.5]], dtype=ml_dtypes.bfloat16)
    got = plain.infer("bfloat16", inputs(x_BF16=halves)).as_numpy("y_BF16")
    assert got.dtype == halves.dtype
    assert np.array_equal(got, halves)


def _values(dtype: type) -> np.ndarray:
    """[1, 2, 3] values that reach the ends of a type."""
    if dtype is np.bool_:
        return np.array([[[True, False, True], [False, False, True]]])
    ends = np.iinfo(dtype) if np.issubdtype(dtype, np.integer) else np.finfo(dtype)
    return np.array([[[ends.min, ends.max, 0], [1, 2, 3]]], dtype=dtype)


def test_contents_that_are_not_raw(plain_server: ServerProcess) -> None:
    fields = {
        "BOOL": ("bool_contents", [True, False, False]),
        "INT8": ("int_contents", [-128, 127, 0]),
        "INT16": ("int_contents", [-32768, 32767, 0]),
        "INT32": ("int_contents", [-(2**31), 2**31 - 1, 0]),
        "INT64": ("int64_contents", [-(2**63), 2**63 - 1, 0]),
        "UINT8": ("uint_contents", [255, 0, 1]),
        "UINT16": ("uint_contents", [65535, 0, 1]),
        "UINT32": ("uint_contents", [2**32 - 1, 0, 1]),
        "UINT64": ("uint64_contents", [2**64 - 1, 0, 1]),
        "FP32": ("fp32_contents", [0.5, -1, 2]),
        "FP64": ("fp64_contents", [1e300, -1, 2]),
        "BYTES": ("bytes_contents", [b"a", b"", b"b"]),
    }
    request = service_pb2.ModelInferRequest(model_name="contents")
    for name, (field, values) in fields.items():
        contents = service_pb2.InferTensorContents(**{field: values})
        request.inputs.add(name=f"x_{name}", datatype=name, shape=[1, 3], contents=contents)
    half = service_pb2.ModelInferRequest(model_name="half")
    half.inputs.add(name="x_FP16", datatype="FP16", shape=[1, 3])
    with grpc.insecure_channel(plain_server.address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        response = stub.ModelInfer(request)
        code, message = failure(stub.ModelInfer, half)
    for tensor, data in zip(response.outputs, response.raw_output_contents, strict=True):
        if tensor.datatype == "BYTES":
            assert data == b"\1\0\0\0a\0\0\0\0\1\0\0\0b"
            continue
        got = np.frombuffer(data, NUMBERS[tensor.datatype][1]).tolist()
        assert got == fields[tensor.datatype][1], tensor.name
    assert (code, "raw_input_contents only" in message) == ("INVALID_ARGUMENT", True)


def test_versions_side_by_side(plain: InferenceServerClient) -> None:
    zeros = inputs(x=np.zeros((1, 3), dtype=np.float32))
    for version in ("1", "2", "10"):
        result = plain.infer("versions", zeros, model_version=version)
        assert np.array_equal(result.as_numpy("y"), np.full((1, 3), int(version), np.float32))
        assert result.get_response().model_version == version
    latest = plain.infer("versions", zeros)
    assert latest.get_response().model_version == "10"
    assert plain.get_model_metadata("versions").versions == ["1", "2", "10"]


def test_a_graph_without_a_batch_axis_runs_requests_as_they_are(
    plain: InferenceServerClient,
) -> None:
    for name, rows in (("fixed", 2), ("alone", 5)):
        values = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)
        result = plain.infer(name, inputs(x=values))
        assert np.array_equal(result.as_numpy("y"), values + 1)
        assert plain.get_model_config(name).config.max_batch_size == 0


def test_calls_that_are_answered_by_callback(plain: InferenceServerClient) -> None:
    done: queue.Queue[Any] = queue.Queue()
    for number in range(50):
        values = np.full((1, 3), number, dtype=np.float32)
        plain.async_infer(
            "small",
            inputs(x=values),
            callback=lambda result, error, number=number: done.put((number, result, error)),
        )
    for _ in range(50):
        number, result, error = done.get(timeout=TIMEOUT_S)
        assert error is None
        assert np.array_equal(result.as_numpy("y"), np.full((1, 3), number + 1, np.float32))


def test_a_graph_that_takes_no_blank_rows_is_served_without_a_warm_up(
    plain_server: ServerProcess, plain: InferenceServerClient
) -> None:
    values = np.arange(14, dtype=np.float32).reshape(2, 7)
    for name, tried in (("picky", True), ("picky-cold", False)):
        assert np.array_equal(plain.infer(name, inputs(x=values)).as_numpy("y"), values)
        assert (f"{name} takes no blank rows, so it is not warmed up" in plain_server.log) == tried


def test_unknown_parameters_are_ignored(plain: InferenceServerClient) -> None:
    values = inputs(x=np.zeros((1, 3), dtype=np.float32))
    result = plain.infer("small", values, parameters={"colour": "green", "size": 3}, priority=2)
    assert result.as_numpy("y").shape == (1, 3)
    requested = [InferRequestedOutput("y")]
    assert plain.infer("small", values, outputs=requested, timeout=10_000_000).as_numpy("y").any()
