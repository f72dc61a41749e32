"""Tensor contents: as messages carry them, to arrays and back."""

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from vecserve_server.api.oip.stubs import grpc_service_pb2 as pb
from vecserve_server.engine.tensors import BYTES, DATATYPES, Datatype
from vecserve_server.errors import InvalidItem
from vecserve_server.reasons import Reason
from vecserve_server.serving.request import Array, Tensor

_BY_NAME = {datatype.name: datatype for datatype in DATATYPES}
_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
_LENGTH = struct.Struct("<I")


def datatype_of(tensor: pb.ModelInferRequest.InferInputTensor) -> Datatype:
    """Return an input's datatype. Raises InvalidItem for one the protocol does not have."""
    if tensor.datatype not in _BY_NAME:
        raise InvalidItem(
            Reason.UNKNOWN_DATATYPE,
            f"input {tensor.name!r} is {tensor.datatype!r}; there are: {', '.join(_BY_NAME)}",
        )
    return _BY_NAME[tensor.datatype]


def from_raw(tensor: pb.ModelInferRequest.InferInputTensor, data: bytes) -> Tensor:
    """Read an input from little-endian bytes. Raises InvalidItem if shape and bytes disagree."""
    datatype = datatype_of(tensor)
    count = _count(tensor)
    if datatype is BYTES:
        elements = _split(data, tensor.name)
        _refuse_other_count(tensor, len(elements), count)
        return Tensor(datatype, _shaped(_objects(elements), tensor))
    values = np.dtype(datatype.numpy)
    if len(data) != count * values.itemsize:
        raise InvalidItem(
            Reason.SIZE_MISMATCH,
            f"input {tensor.name!r}: shape {list(tensor.shape)} of {datatype.name} takes "
            f"{count * values.itemsize} bytes, it has {len(data)}",
        )
    if datatype.name == "BOOL":
        return Tensor(datatype, _shaped(np.frombuffer(data, np.uint8) != 0, tensor))
    return Tensor(datatype, _shaped(np.frombuffer(data, values), tensor))


def from_contents(tensor: pb.ModelInferRequest.InferInputTensor) -> Tensor:
    """Read an input from its `contents`. Raises InvalidItem if they do not fit."""
    datatype = datatype_of(tensor)
    if datatype.name not in _CONTENTS:
        raise InvalidItem(
            Reason.RAW_ONLY,
            f"input {tensor.name!r}: {datatype.name} goes in raw_input_contents only",
        )
    field = _CONTENTS[datatype.name]
    if wrong := [other.name for other, _ in tensor.contents.ListFields() if other.name != field]:
        raise InvalidItem(
            Reason.WRONG_CONTENTS,
            f"input {tensor.name!r}: {datatype.name} goes in {field}, not in {', '.join(wrong)}",
        )
    elements: Sequence[Any] = getattr(tensor.contents, field)
    _refuse_other_count(tensor, len(elements), _count(tensor))
    if datatype is BYTES:
        return Tensor(datatype, _shaped(_objects(elements), tensor))
    values = np.dtype(datatype.numpy)
    # Small integers travel in wider fields.
    wide = np.array(elements, dtype=np.dtype(np.int64) if values.kind == "i" else None)
    if values.kind in "iu" and values.itemsize < 4 and wide.size:
        limits = np.iinfo(values)
        if wide.min() < limits.min or wide.max() > limits.max:
            raise InvalidItem(
                Reason.OUT_OF_RANGE,
                f"input {tensor.name!r} has values from {wide.min()} to {wide.max()}, "
                f"{datatype.name} goes from {limits.min} to {limits.max}",
            )
    return Tensor(datatype, _shaped(np.array(elements, dtype=values), tensor))


def to_raw(values: Array) -> bytes:
    """Return an output as little-endian bytes; BYTES are bytes objects in an object array."""
    if values.dtype == np.object_:
        return b"".join(_LENGTH.pack(len(element)) + element for element in values.ravel().tolist())
    return values.tobytes()


def _count(tensor: pb.ModelInferRequest.InferInputTensor) -> int:
    if any(length < 0 for length in tensor.shape):
        raise InvalidItem(
            Reason.WRONG_SHAPE,
            f"input {tensor.name!r} has shape {list(tensor.shape)}: no axis below 0",
        )
    return math.prod(tensor.shape)


def _refuse_other_count(
    tensor: pb.ModelInferRequest.InferInputTensor, found: int, expected: int
) -> None:
    if found != expected:
        raise InvalidItem(
            Reason.SIZE_MISMATCH,
            f"input {tensor.name!r}: shape {list(tensor.shape)} has {expected} elements, "
            f"{found} were sent",
        )


def _shaped(values: Array, tensor: pb.ModelInferRequest.InferInputTensor) -> Array:
    try:
        return values.reshape(tuple(tensor.shape))
    except ValueError as error:  # more axes than numpy has, or one too long beside a zero
        raise InvalidItem(Reason.WRONG_SHAPE, f"input {tensor.name!r}: {error}") from error


def _objects(elements: Sequence[bytes]) -> Array:
    values = np.empty(len(elements), dtype=np.object_)
    values[:] = elements
    return values


def _split(data: bytes, name: str) -> list[bytes]:
    """Split elements that each have their length before them, as 4 bytes."""
    elements: list[bytes] = []
    start = 0
    while start < len(data):
        body = start + _LENGTH.size
        end = body + _LENGTH.unpack_from(data, start)[0] if body <= len(data) else body
        if end > len(data):
            raise InvalidItem(
                Reason.SIZE_MISMATCH,
                f"input {name!r}: element {len(elements)} ends {end - len(data)} bytes after the "
                "data; each element has its length before it, as 4 little-endian bytes",
            )
        elements.append(data[body:end])
        start = end
    return elements
