"""Tensor specifications of a graph: names, element types, axes."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

# The length of an axis: fixed, or any, under a name that equal lengths share,
# or any without a name.
Axis = int | str | None


@dataclass(frozen=True, slots=True)
class Datatype:
    """A type of elements. `name` is the Open Inference Protocol's, `ort` ONNX Runtime's.

    Arrays hold them as `numpy`: BF16 as the 16 bits it has, BYTES as bytes objects.
    """

    name: str
    ort: str
    numpy: npt.DTypeLike


BYTES = Datatype("BYTES", "tensor(string)", np.object_)
BF16 = Datatype("BF16", "tensor(bfloat16)", "<u2")
FP32 = Datatype("FP32", "tensor(float)", "<f4")
DATATYPES = (
    Datatype("BOOL", "tensor(bool)", np.bool_),
    Datatype("UINT8", "tensor(uint8)", "<u1"),
    Datatype("UINT16", "tensor(uint16)", "<u2"),
    Datatype("UINT32", "tensor(uint32)", "<u4"),
    Datatype("UINT64", "tensor(uint64)", "<u8"),
    Datatype("INT8", "tensor(int8)", "<i1"),
    Datatype("INT16", "tensor(int16)", "<i2"),
    Datatype("INT32", "tensor(int32)", "<i4"),
    Datatype("INT64", "tensor(int64)", "<i8"),
    Datatype("FP16", "tensor(float16)", "<f2"),
    Datatype("FP64", "tensor(double)", "<f8"),
    FP32,
    BF16,
    BYTES,
)
_BY_ORT_NAME = {datatype.ort: datatype for datatype in DATATYPES}
_BY_DTYPE = {np.dtype(datatype.numpy): datatype for datatype in DATATYPES if datatype is not BF16}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output: its shape is that of a whole batch."""

    name: str
    datatype: Datatype
    shape: tuple[Axis, ...]


class Node(Protocol):
    """What ONNX Runtime says of an input or output."""

    name: str
    type: str
    shape: list[Axis]


class UnknownType(Exception):
    """An input or output that no request can carry."""


def specs_of(nodes: Iterable[Node]) -> tuple[TensorSpec, ...]:
    """Return what `nodes` are. Raises UnknownType."""
    specs = []
    for node in nodes:
        if node.type not in _BY_ORT_NAME:
            # What skl2onnx puts after a classifier unless it is told not to.
            remedy = (
                ": convert the scikit-learn model anew with options={'zipmap': False}"
                if node.type.startswith("seq(map(")
                else ""
            )
            raise UnknownType(
                f"{node.name!r} is a {node.type}, which requests cannot carry{remedy}"
            )
        specs.append(TensorSpec(node.name, _BY_ORT_NAME[node.type], tuple(node.shape)))
    return tuple(specs)


def datatype_of(array: npt.NDArray[np.generic]) -> Datatype:
    """Return the type of an array's elements."""
    return _BY_DTYPE[array.dtype]


def has_batch_axis(inputs: Iterable[TensorSpec], outputs: Iterable[TensorSpec]) -> bool:
    """Whether the first axis of every tensor is free, and of one name where it has any."""
    specs = (*inputs, *outputs)
    if any(not spec.shape or isinstance(spec.shape[0], int) for spec in specs):
        return False
    return len({spec.shape[0] for spec in inputs} - {None}) <= 1
