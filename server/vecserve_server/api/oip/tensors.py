"""Tensor contents: as messages carry them, to arrays and back."""

import math
import struct
from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np

from vecserve_server.api.oip.stubs import grpc_service_pb2 as pb
from vecserve_server.engine.tensors import BYTES, DATATYPES
from vecserve_server.errors import InvalidItem
from vecserve_server.reasons import Reason
from vecserve_server.serving.request import Array, Tensor, TensorHeader
from vecserve_server.wording import quoted

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
# Of a NumPy array.
_MAX_AXES = 64
# What elements are read as, by the kind of their datatype.
_WIDE = {"i": np.int64, "u": np.uint64}
# Numbers that are read in 1 ms.
_SLICE = 16 * 1024


def header_of(tensor: pb.ModelInferRequest.InferInputTensor) -> TensorHeader:
    """Return an input's datatype and shape. Raises InvalidItem for what the protocol lacks."""
    if tensor.datatype not in _BY_NAME:
        raise InvalidItem(
            Reason.UNKNOWN_DATATYPE,
            f"input {quoted(tensor.name)} is {quoted(tensor.datatype)}; there are: "
            f"{', '.join(_BY_NAME)}",
        )
    if len(tensor.shape) > _MAX_AXES:
        raise InvalidItem(
            Reason.WRONG_SHAPE,
            f"input {quoted(tensor.name)} has {len(tensor.shape)} axes, there may be {_MAX_AXES}",
        )
    shape = tuple(tensor.shape)
    if any(length < 0 for length in shape):
        raise InvalidItem(
            Reason.WRONG_SHAPE,
            f"input {quoted(tensor.name)} has shape {list(shape)}: no axis below 0",
        )
    return TensorHeader(_BY_NAME[tensor.datatype], shape)


def from_raw(name: str, header: TensorHeader, data: bytes) -> Tensor:
    """Read an input from little-endian bytes. Raises InvalidItem if shape and bytes disagree."""
    datatype = header.datatype
    if datatype is BYTES:
        elements = _split(name, data, math.prod(header.shape))
        _refuse_other_count(name, header, len(elements))
        return Tensor(datatype, _shaped(name, header, _objects(elements)))
    check_size(name, header, len(data))
    values = np.dtype(datatype.numpy)
    if datatype.name == "BOOL":
        return Tensor(datatype, _shaped(name, header, np.frombuffer(data, np.uint8) != 0))
    return Tensor(datatype, _shaped(name, header, np.frombuffer(data, values)))


def check_size(name: str, header: TensorHeader, size: int) -> None:
    """Raise InvalidItem if `size` bytes are not what an input of that shape takes."""
    if header.datatype is BYTES:
        return
    takes = math.prod(header.shape) * np.dtype(header.datatype.numpy).itemsize
    if size != takes:
        raise InvalidItem(
            Reason.SIZE_MISMATCH,
            f"input {quoted(name)}: shape {list(header.shape)} of {header.datatype.name} takes "
            f"{takes} bytes, it has {size}",
        )


def from_contents(name: str, header: TensorHeader, contents: pb.InferTensorContents) -> Tensor:
    """Read an input from its `contents`. Raises InvalidItem if they do not fit."""
    datatype = header.datatype
    if datatype.name not in _CONTENTS:
        raise InvalidItem(
            Reason.RAW_ONLY,
            f"input {quoted(name)}: {datatype.name} goes in raw_input_contents only",
        )
    field = _CONTENTS[datatype.name]
    if wrong := [other.name for other, _ in contents.ListFields() if other.name != field]:
        raise InvalidItem(
            Reason.WRONG_CONTENTS,
            f"input {quoted(name)}: {datatype.name} goes in {field}, not in {', '.join(wrong)}",
        )
    elements: Sequence[Any] = getattr(contents, field)
    _refuse_other_count(name, header, len(elements))
    if datatype is BYTES:
        return Tensor(datatype, _shaped(name, header, _objects(elements)))
    values = np.dtype(datatype.numpy)
    # Small integers travel in wider fields.
    wide = _numbers(elements, np.dtype(_WIDE.get(values.kind, values)))
    if values.kind in "iu" and values.itemsize < 4 and wide.size:
        limits = np.iinfo(values)
        if wide.min() < limits.min or wide.max() > limits.max:
            raise InvalidItem(
                Reason.OUT_OF_RANGE,
                f"input {quoted(name)} has values from {wide.min()} to {wide.max()}, "
                f"{datatype.name} goes from {limits.min} to {limits.max}",
            )
    return Tensor(datatype, _shaped(name, header, wide.astype(values, copy=False)))


def to_raw(values: Array) -> bytes:
    """Return an output as little-endian bytes; BYTES are bytes objects in an object array."""
    if values.dtype == np.object_:
        return b"".join(_LENGTH.pack(len(element)) + element for element in values.ravel().tolist())
    return values.tobytes()


def _refuse_other_count(name: str, header: TensorHeader, found: int) -> None:
    expected = math.prod(header.shape)
    if found != expected:
        raise InvalidItem(
            Reason.SIZE_MISMATCH,
            f"input {quoted(name)}: shape {list(header.shape)} has {expected} elements, "
            f"{'more' if found > expected else found} were sent",
        )


def _shaped(name: str, header: TensorHeader, values: Array) -> Array:
    try:
        return values.reshape(header.shape)
    except ValueError as error:  # an axis too long beside a zero
        raise InvalidItem(Reason.WRONG_SHAPE, f"input {quoted(name)}: {error}") from error


def _numbers(elements: Sequence[Any], dtype: np.dtype[np.generic]) -> Array:
    """Return numbers as an array, in slices: between them other threads get their turn."""
    values = np.empty(len(elements), dtype)
    rest = iter(elements)
    for start in range(0, len(values), _SLICE):
        part = values[start : start + _SLICE]
        part[:] = np.fromiter(islice(rest, len(part)), dtype, len(part))
    return values


def _objects(elements: Sequence[bytes]) -> Array:
    values = np.empty(len(elements), dtype=np.object_)
    values[:] = elements
    return values


def _split(name: str, data: bytes, expected: int) -> list[bytes]:
    """Split elements that each have their length before them, as 4 bytes: one too many at most."""
    elements: list[bytes] = []
    start = 0
    while start < len(data) and len(elements) <= expected:
        body = start + _LENGTH.size
        end = body + _LENGTH.unpack_from(data, start)[0] if body <= len(data) else body
        if end > len(data):
            raise InvalidItem(
                Reason.SIZE_MISMATCH,
                f"input {quoted(name)}: element {len(elements)} ends {end - len(data)} bytes "
                "after the "
                "data; each element has its length before it, as 4 little-endian bytes",
            )
        elements.append(data[body:end])
        start = end
    return elements
