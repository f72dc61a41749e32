"""Tensor request, and the check that it fits a model. Knows no protocol."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from vecserve_server.engine.tensors import Axis, Datatype, TensorSpec
from vecserve_server.errors import InvalidItem
from vecserve_server.reasons import Reason
from vecserve_server.scheduling.options import JobOptions
from vecserve_server.serving.options import EmbedOptions
from vecserve_server.wording import listed, quoted

Array = npt.NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class Tensor:
    """Elements with their type. BYTES are bytes objects in an object array."""

    datatype: Datatype
    values: Array


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """What a caller says of an input: enough to refuse it before its elements are read."""

    datatype: Datatype
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TensorRequest:
    """What a caller wants computed, once ServedModel.check has passed it.

    `rows` as check counted them. `outputs` in the order wanted; empty means all.
    `options` are for raw input. `waits`: whether the caller rather waits than be
    refused where much waits already.
    """

    inputs: Mapping[str, Tensor]
    rows: int
    outputs: tuple[str, ...]
    job_options: JobOptions
    options: EmbedOptions = field(default_factory=EmbedOptions)
    waits: bool = False


def check_names(wanted: Sequence[str], specs: Sequence[TensorSpec], kind: str) -> None:
    """Raise InvalidItem if a name in `wanted` is not that of an input or output (`kind`)."""
    known = [spec.name for spec in specs]
    for name in wanted:
        if name not in known:
            raise InvalidItem(
                Reason.UNKNOWN_INPUT if kind == "input" else Reason.UNKNOWN_OUTPUT,
                f"no {kind} {quoted(name)}; the model has: {listed(known)}",
            )


def check_datatype(name: str, header: TensorHeader, spec: TensorSpec) -> None:
    """Raise InvalidItem unless a tensor has the type its input has."""
    if header.datatype is not spec.datatype:
        raise InvalidItem(
            Reason.WRONG_DATATYPE,
            f"input {quoted(name)} is {header.datatype.name}, the model takes {spec.datatype.name}",
        )


def check_inputs(
    inputs: Mapping[str, TensorHeader], specs: Sequence[TensorSpec], max_batch_size: int
) -> int:
    """Return how many rows a request has; 1 where `max_batch_size` is 0: there is no batch axis.

    Raises InvalidItem: an input that is missing, unknown, of another type or
    shape, or more rows than `max_batch_size`.
    """
    check_names(list(inputs), specs, "input")
    if missing := [spec.name for spec in specs if spec.name not in inputs]:
        raise InvalidItem(Reason.MISSING_INPUT, f"the model also needs input {listed(missing)}")
    lengths: dict[str, tuple[int, str]] = {}
    rows: dict[str, int] = {}
    for spec in specs:
        header = inputs[spec.name]
        check_datatype(spec.name, header, spec)
        shape = header.shape
        if not _fits(shape, spec.shape):
            raise InvalidItem(
                Reason.WRONG_SHAPE,
                f"input {spec.name!r} has shape {list(shape)}, "
                f"the model takes {readable(spec.shape)}",
            )
        for axis, length in zip(spec.shape, shape, strict=True):
            if not isinstance(axis, str):
                continue
            known, where = lengths.setdefault(axis, (length, spec.name))
            if known != length:
                raise InvalidItem(
                    Reason.WRONG_SHAPE,
                    f"axis {axis!r} is {known} in input {where!r} and {length} in {spec.name!r}: "
                    "make them equal",
                )
        if max_batch_size:
            rows[spec.name] = shape[0]
    if not max_batch_size:
        return 1
    if len(set(rows.values())) > 1:
        raise InvalidItem(Reason.WRONG_SHAPE, f"the inputs have different numbers of rows: {rows}")
    count = next(iter(rows.values()))
    check_rows(count, max_batch_size)
    return count


def check_rows(rows: int, max_batch_size: int) -> None:
    """Raise InvalidItem unless a request has at least one row, and not too many."""
    if rows < 1:
        raise InvalidItem(Reason.NO_ITEMS, "the request has no rows: send at least one")
    if rows > max_batch_size:
        raise InvalidItem(
            Reason.TOO_MANY_ITEMS,
            f"the request has {rows} rows, the model takes {max_batch_size}: send several requests",
        )


def readable(shape: Sequence[Axis]) -> str:
    """Return a shape as text: -1 where any length goes, or the axis' name."""
    return "[" + ", ".join("-1" if axis is None else str(axis) for axis in shape) + "]"


def _fits(shape: Sequence[int], expected: Sequence[Axis]) -> bool:
    return len(shape) == len(expected) and all(
        not isinstance(axis, int) or axis == length
        for axis, length in zip(expected, shape, strict=True)
    )
