"""Short ways to use tritonclient, and what ONNX Runtime gives without a server."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime as ort
import pytest
from tritonclient.grpc import InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

MINILM = "all-MiniLM-L6-v2"
CLIP = "clip-vit-base-patch32"
RESNET = "resnet-50"
WHISPER = "whisper-base"
TIMEOUT_S = 120


def inputs(**arrays: np.ndarray) -> list[InferInput]:
    """Raw inputs, of the arrays' own types."""
    made = []
    for name, array in arrays.items():
        tensor = InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array)
        made.append(tensor)
    return made


def outputs(*names: str) -> list[InferRequestedOutput]:
    return [InferRequestedOutput(name) for name in names]


def strings(*elements: bytes, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """BYTES of shape [n, 1], or as given."""
    array = np.empty(len(elements), dtype=np.object_)
    array[:] = elements
    return array.reshape(shape or (-1, 1))


def tokens(rng: np.random.Generator, rows: int, length: int, size: int) -> dict[str, np.ndarray]:
    ids = rng.integers(1, size, (rows, length))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def failure(call: Callable[..., Any], *args: object, **kwargs: object) -> tuple[str, str]:
    """(code, message) of a call that must fail."""
    with pytest.raises((InferenceServerException, grpc.RpcError)) as caught:
        call(*args, **kwargs)
    error = caught.value
    if isinstance(error, InferenceServerException):
        return str(error.status()).removeprefix("StatusCode."), error.message()
    return error.code().name, error.details()


def run(path: Path, **feeds: np.ndarray) -> dict[str, np.ndarray]:
    """What ONNX Runtime gives in this process, on one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))
