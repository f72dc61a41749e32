"""Batching check: whether a graph keeps what the names of its axes promise, tried before use.

A graph may ignore its mask, or mix the rows of a batch; then its requests must
not be padded, or not share batches, or answers would depend on who shared them.
"""

import dataclasses
import logging
from collections.abc import Sequence

import numpy as np

from vecserve_server.engine.engine import Array, Engine, Job
from vecserve_server.engine.padding import GraphSpec
from vecserve_server.engine.session import Session
from vecserve_server.engine.tensors import BYTES, TensorSpec
from vecserve_server.engine.watchdog import RunTerminated, Watchdog

_log = logging.getLogger(__name__)

# How far a row's outputs may differ between alone and in a batch, of their
# scale: far above rounding, far below what a mask that is ignored does.
_TOLERANCE = 1e-3
# Lengths of the two rows that are tried together: one of zeros, as padding is, and
# one of ones, which would be padded.
_UNEQUAL, _EQUAL = (5, 2), (4, 4)


def check_batching(
    model: str,
    session: Session,
    spec: GraphSpec,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    watchdog: Watchdog,
) -> GraphSpec:
    """Return `spec` without what changes a row's outputs; log what that is, naming `model`.

    Padding must be seen to change nothing. Sharing batches is only given up if
    it is seen to change something: a graph may take no blank rows. Raises RunTerminated
    if a row does not end.
    """
    names = tuple(output.name for output in outputs)

    def same_in_a_batch(lengths: tuple[int, int]) -> bool | None:
        return _same_in_a_batch(
            Engine(model, session, spec, watchdog), spec, inputs, names, lengths
        )

    if spec.pads and not same_in_a_batch(_UNEQUAL):
        _log.warning(
            "%s: padding changes its outputs, or cannot be tried: only requests of equal shapes "
            "share batches",
            model,
        )
        spec = dataclasses.replace(spec, pads={}, padded_outputs=frozenset())
    if spec.batches and same_in_a_batch(_EQUAL) is False:
        _log.warning(
            "%s: its outputs depend on the other rows of a batch: every request runs alone", model
        )
        spec = GraphSpec({}, frozenset(), batches=False)
    return spec


def blank_row(
    inputs: Sequence[TensorSpec],
    spec: GraphSpec,
    length: int,
    *,
    fill: int = 0,
    outputs: tuple[str, ...],
) -> Job:
    """Return a row full of `fill`, its mask full of ones, free axes of `length`."""
    feeds = {tensor.name: _blank(tensor, spec, length, fill) for tensor in inputs}
    return Job(feeds, rows=1, positions=length, outputs=outputs)


def _blank(tensor: TensorSpec, spec: GraphSpec, length: int, fill: int) -> Array:
    shape = [axis if isinstance(axis, int) else length for axis in tensor.shape]
    if spec.batches:
        shape[0] = 1
    if tensor.datatype is BYTES:
        return np.full(shape, str(fill), dtype=np.object_)
    value = 1 if tensor.name == spec.mask else fill
    return np.full(shape, value, dtype=tensor.datatype.numpy)


def _same_in_a_batch(
    engine: Engine,
    spec: GraphSpec,
    inputs: Sequence[TensorSpec],
    outputs: tuple[str, ...],
    lengths: tuple[int, int],
) -> bool | None:
    """Whether two different rows give the same together as alone; None if a row does not run."""
    rows = [
        blank_row(inputs, spec, length, fill=fill, outputs=outputs)
        for fill, length in enumerate(lengths)
    ]
    try:
        alone = [engine.run_together([row])[0] for row in rows]
    except RunTerminated:
        raise
    except Exception as error:
        _log.info("it takes no blank rows, so nothing is known of its batches: %s", error)
        return None
    try:
        together = engine.run_together(rows)
    except RunTerminated:
        raise
    except Exception as error:
        _log.info("two rows do not run together: %s", error)
        return False
    return all(
        _close(one[name], other[name])
        for one, other in zip(alone, together, strict=True)
        for name in outputs
    )


def _close(one: Array, other: Array) -> bool:
    if one.shape != other.shape:
        return False
    if not np.issubdtype(one.dtype, np.floating):
        return bool((one == other).all())
    scale = max(float(np.nanmax(np.abs(one), initial=0.0)), 1e-6)
    return np.allclose(one, other, rtol=0.0, atol=_TOLERANCE * scale, equal_nan=True)
