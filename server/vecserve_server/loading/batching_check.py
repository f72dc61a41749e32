"""Batching check: whether a graph keeps what the names of its axes promise, tried before use.

A graph may ignore its mask, or mix the rows of a batch; then its requests must
not be padded, or not share batches, or answers would depend on who shared them.
What is not seen to be harmless is not done.
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
from vecserve_server.loading.trial_rows import Draw, TrialRows, alone

_log = logging.getLogger(__name__)

# How far a row's outputs may differ between alone and in a batch, of their
# scale: far above rounding, far below what a mask that is ignored does.
_TOLERANCE = 1e-3
# Float16 has ten binary digits, and other kernels for other sizes of a batch.
_TOLERANCE_OF_HALF = 1e-2
# These take one scale for a whole tensor from its largest number, whichever row has it
# (https://onnx.ai/onnx/operators/onnx__DynamicQuantizeLinear.html, and ONNX Runtime's
# ContribOperators.md). Where the numbers of a trial are alike it does not show.
_MIXES_ROWS = frozenset({"DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"})

_ALONE = GraphSpec({}, frozenset(), batches=False)


def check_batching(
    model: str,
    session: Session,
    spec: GraphSpec,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    share: bool | None,
    watchdog: Watchdog,
) -> GraphSpec:
    """Return `spec` without what changes a row's outputs; log what that is, naming `model`.

    `share` is what its operator says of sharing batches, None for nothing. Padding must be
    seen to change nothing whatever is said. Raises RunTerminated if a row does not end.
    """
    if not spec.batches or share is False:
        return _ALONE
    mixes = sorted(session.operators.keys() & _MIXES_ROWS)
    if mixes and share is None:
        return _run_alone(model, f"{' and '.join(mixes)} computes a row from others of its batch")
    if share and not spec.pads:
        return spec
    rows = TrialRows(spec, inputs, tuple(output.name for output in outputs))
    engine = Engine(model, session, spec, watchdog)
    draw = rows.find(engine)
    if share is None:
        if draw is None:
            return _run_alone(model, "no random rows are found whose outputs tell anything")
        if not _same_in_a_batch(engine, rows.draw(draw, (draw.length,))):
            return _run_alone(model, "its outputs depend on the other rows of a batch")
    if spec.pads and not (draw and _padding_is_harmless(engine, rows, draw)):
        _log.warning(
            "%s: padding changes its outputs, or cannot be tried: only requests of equal shapes "
            "share batches",
            model,
        )
        spec = dataclasses.replace(spec, pads={}, padded_outputs=frozenset())
    return spec


def blank_row(
    inputs: Sequence[TensorSpec], spec: GraphSpec, length: int, outputs: tuple[str, ...]
) -> Job:
    """Return a row of zeros, its mask full of ones, free axes of `length`."""
    feeds = {tensor.name: _blank(tensor, spec, length) for tensor in inputs}
    return Job(feeds, rows=1, positions=length, outputs=outputs)


def _blank(tensor: TensorSpec, spec: GraphSpec, length: int) -> Array:
    shape = [axis if isinstance(axis, int) else length for axis in tensor.shape]
    if spec.batches:
        shape[0] = 1
    if tensor.datatype is BYTES:
        return np.full(shape, "0", dtype=np.object_)
    return np.full(shape, int(tensor.name == spec.mask), dtype=tensor.datatype.numpy)


def _run_alone(model: str, why: str) -> GraphSpec:
    _log.warning(
        "%s: %s: every request runs alone; if a row's outputs depend on that row only, set "
        "share_batches to true in its config.json",
        model,
        why,
    )
    return _ALONE


def _padding_is_harmless(engine: Engine, rows: TrialRows, draw: Draw) -> bool:
    # A graph may have no more positions than these, or need as many.
    lengths = ((2 * draw.length, draw.length), (draw.length, draw.length // 2))
    seen = [_same_in_a_batch(engine, rows.draw(draw, pair)) for pair in lengths]
    return True in seen and False not in seen


def _same_in_a_batch(engine: Engine, rows: list[Job]) -> bool | None:
    """Whether rows give the same together as alone; None if one does not run alone."""
    by_themselves = alone(engine, rows)
    if by_themselves is None:
        return None
    try:
        together = engine.run_together(rows)
    except RunTerminated:
        raise
    except Exception as error:
        _log.info("rows do not run together: %s", error)
        return False
    return all(
        _close(one[name], other[name])
        for one, other in zip(by_themselves, together, strict=True)
        for name in one
    )


def _close(one: Array, other: Array) -> bool:
    if one.shape != other.shape:
        return False
    if not np.issubdtype(one.dtype, np.floating):
        return bool((one == other).all())
    scale = np.abs(one[np.isfinite(one)]).max(initial=1e-6)
    tolerance = _TOLERANCE_OF_HALF if one.dtype == np.float16 else _TOLERANCE
    return np.allclose(one, other, rtol=0.0, atol=tolerance * scale, equal_nan=True)
