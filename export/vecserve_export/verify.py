"""Verification of a graph: names and shapes by its contract, outputs by PyTorch's."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from vecserve_export.errors import ParityFailed
from vecserve_export.plan import Feeds, TowerPlan
from vecserve_server.repository.manifest import Parity, Pooling, Tower


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a graph may be from PyTorch; None is not asked for.

    `min_cosine` is of every pooled vector, `min_position_cosine` of every
    position of an unpooled output (a token, 20 ms of sound), `mean_cosine` of
    every output's mean in every case. `max_abs_error` is relative to the
    reference's scale, and `max_neighbour_error` to the output's: what sharing a
    batch, with its padding, may change.
    """

    max_abs_error: float | None
    min_cosine: float | None
    min_position_cosine: float | None
    mean_cosine: float
    max_neighbour_error: float

    def __str__(self) -> str:
        asked = [
            f"{name.replace('_', ' ')} {value}"
            for name in self.__dataclass_fields__
            if (value := getattr(self, name)) is not None
        ]
        return ", ".join(asked)


TOLERANCES = {
    # What fp32 arithmetic in another order may change.
    "fp32": Tolerance(
        max_abs_error=1e-4,
        min_cosine=0.99999,
        min_position_cosine=0.99999,
        mean_cosine=0.99999,
        max_neighbour_error=1e-5,
    ),
    # A position in a pause has little of its own: ten of whisper-base's 4500 are
    # under 0.9995, the worst at 0.9978, and fp32 for whole kinds of layers does
    # not change that. As to neighbours: fp32 sums differ in their last bit with
    # the shape of a batch, and then round to another fp16 now and then. 6e-4
    # measured; 2e-3 in vectors if every operator's result is off in its last bits.
    "fp16": Tolerance(
        max_abs_error=None,
        min_cosine=0.9995,
        min_position_cosine=0.99,
        mean_cosine=0.9999,
        max_neighbour_error=5e-3,
    ),
    # No floor for a single vector: a position of silence has little of its own,
    # and may go anywhere.
    "int8": Tolerance(
        max_abs_error=None,
        min_cosine=None,
        min_position_cosine=None,
        mean_cosine=0.995,
        max_neighbour_error=1e-5,
    ),
}

# What other neighbours may change in a vector, relative to the output's scale,
# where the batch keeps its shape: the arithmetic stays the same to the last bit,
# so that no precision's rounding hides an influence. 0.0 measured.
MAX_OTHER_NEIGHBOURS_ERROR = 1e-5

_BATCH = "batch"
_MASK = "attention_mask"
# ONNX Runtime's name of a type, where it is not numpy's.
_ONNX_TYPES = {"float32": "float"}


@dataclass(frozen=True, slots=True)
class Difference:
    """The largest error, relative to the reference's scale, and cosines of vectors."""

    max_abs_error: float
    min_cosine: float
    mean_cosine: float

    def within(self, tolerance: Tolerance, *, pooled: bool) -> bool:
        """Whether all that the tolerance asks for holds. A NaN does not."""
        floor = tolerance.min_cosine if pooled else tolerance.min_position_cosine
        return (
            (tolerance.max_abs_error is None or self.max_abs_error <= tolerance.max_abs_error)
            and (floor is None or self.min_cosine >= floor)
            and self.mean_cosine >= tolerance.mean_cosine
        )

    def __str__(self) -> str:
        return (
            f"max abs error {self.max_abs_error:.2g}, min cosine {self.min_cosine:.9f}, "
            f"mean cosine {self.mean_cosine:.9f}"
        )


def compare(actual: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> Difference:
    """Compare vectors along the last axis, in float64."""
    one, two = actual.astype(np.float64), expected.astype(np.float64)
    cosines = (one * two).sum(-1) / (np.linalg.norm(one, axis=-1) * np.linalg.norm(two, axis=-1))
    return Difference(
        max_abs_error=float(np.abs(one - two).max() / np.abs(two).max()),
        min_cosine=float(cosines.min()),
        mean_cosine=float(cosines.mean()),
    )


def verify(plan: TowerPlan, graph: Path, dimensions: int, tolerance: Tolerance) -> Parity:
    """Run a graph on its cases. Raises ParityFailed with the measured difference."""
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    _check_contract(plan, session, dimensions)
    names = [output.name for output in plan.tower.outputs]
    vectors: list[Difference] = []
    positions: list[Difference] = []
    failures = []
    neighbour_error = 0.0
    for case in plan.cases:
        together = session.run(names, case.feeds)
        for output, actual, expected in zip(
            plan.tower.outputs, together, case.expected, strict=True
        ):
            name = output.name
            if actual.shape != expected.shape:
                raise ParityFailed(f"{case.name}: {name} has shape {actual.shape}")
            pooled = output.pooling is not Pooling.NONE
            if not pooled and _MASK in case.feeds:
                # Outputs at padding are cut off: they are meaningless.
                real = case.feeds[_MASK].astype(bool)
                actual, expected = actual[real], expected[real]
            difference = compare(actual, expected)
            (vectors if pooled else positions).append(difference)
            if not difference.within(tolerance, pooled=pooled):
                failures.append(f"  {case.name}: {name}: {difference}")
        error = _change(plan.tower, session, case.feeds, together, _alone)
        neighbour_error = max(neighbour_error, error)
        # Not written as `error >`: a NaN fails too.
        if not error <= tolerance.max_neighbour_error:
            failures.append(f"  {case.name}: sharing a batch changes a vector by {error:.2g}")
        error = _change(plan.tower, session, case.feeds, together, _among_copies)
        if not error <= MAX_OTHER_NEIGHBOURS_ERROR:
            failures.append(f"  {case.name}: other neighbours change a vector by {error:.2g}")
    if failures:
        raise ParityFailed(
            "\n".join(
                [
                    f"{plan.tower.graph} is too far from PyTorch or from itself in another batch "
                    f"(allowed: {tolerance}, by other neighbours {MAX_OTHER_NEIGHBOURS_ERROR}); "
                    "nothing was written:",
                    *failures,
                ]
            )
        )
    differences = vectors + positions
    return Parity(
        max_abs_error=max(difference.max_abs_error for difference in differences),
        min_cosine=min(difference.min_cosine for difference in vectors),
        min_position_cosine=min((difference.min_cosine for difference in positions), default=None),
        mean_cosine=min(difference.mean_cosine for difference in differences),
        max_abs_error_allowed=tolerance.max_abs_error,
        min_cosine_allowed=tolerance.min_cosine,
        min_position_cosine_allowed=tolerance.min_position_cosine,
        mean_cosine_allowed=tolerance.mean_cosine,
        max_neighbour_error=neighbour_error,
        cases=tuple(case.name for case in plan.cases),
    )


def worst(parities: Sequence[Parity]) -> Parity:
    """Return the worst figures of several graphs, of one tolerance, and all their cases."""
    positions = [parity.min_position_cosine for parity in parities]
    return parities[0].model_copy(
        update={
            "max_abs_error": max(parity.max_abs_error for parity in parities),
            "min_cosine": min(parity.min_cosine for parity in parities),
            "min_position_cosine": min(
                (cosine for cosine in positions if cosine is not None), default=None
            ),
            "mean_cosine": min(parity.mean_cosine or 0.0 for parity in parities),
            "max_neighbour_error": max(parity.max_neighbour_error or 0.0 for parity in parities),
            "cases": tuple(dict.fromkeys(case for parity in parities for case in parity.cases)),
        }
    )


def _alone(feeds: Feeds, row: int) -> Feeds:
    """Return a batch of one row, without its padding."""
    length = int(feeds[_MASK][row].sum()) if _MASK in feeds else None
    return {
        name: feed[row : row + 1, :length] if _MASK in feeds else feed[row : row + 1]
        for name, feed in feeds.items()
    }


def _among_copies(feeds: Feeds, row: int) -> Feeds:
    """Return a batch of the same shape, the row's neighbours being copies of it."""
    return {name: np.repeat(feed[row : row + 1], len(feed), axis=0) for name, feed in feeds.items()}


def _change(
    tower: Tower,
    session: onnxruntime.InferenceSession,
    feeds: Feeds,
    together: Sequence[npt.NDArray[np.float32]],
    elsewhere: Callable[[Feeds, int], Feeds],
) -> float:
    """Run every row of a batch in another one; return the largest change, 0.0 for one row."""
    rows = len(together[0])
    if rows == 1:
        return 0.0
    names = [output.name for output in tower.outputs]
    worst = 0.0
    for row in range(rows):
        length = int(feeds[_MASK][row].sum()) if _MASK in feeds else None
        for output, batch, others in zip(
            tower.outputs, together, session.run(names, elsewhere(feeds, row)), strict=True
        ):
            # The only row, or the same place.
            before, after = batch[row], others[row % len(others)]
            if output.pooling is Pooling.NONE:
                before, after = before[:length], after[:length]
            # Not max(): it would drop a NaN.
            worst = float(np.maximum(worst, compare(after, before).max_abs_error))
    return worst


def _check_contract(
    plan: TowerPlan, session: onnxruntime.InferenceSession, dimensions: int
) -> None:
    """Check names, types and axes, a named axis being a dynamic one."""
    tower = plan.tower
    wanted = _inputs(plan) | {
        output.name: (
            "tensor(float)",
            [_BATCH, ..., dimensions] if output.pooling is Pooling.NONE else [_BATCH, dimensions],
        )
        for output in tower.outputs
    }
    found = {
        value.name: (value.type, value.shape)
        for value in [*session.get_inputs(), *session.get_outputs()]
    }
    if list(found) != list(wanted):
        raise ParityFailed(f"{tower.graph} has {list(found)}, not {list(wanted)}")
    for name, (kind, axes) in wanted.items():
        found_kind, found_axes = found[name]
        matches = len(axes) == len(found_axes) and all(
            axis is ... or axis == found_axis
            for axis, found_axis in zip(axes, found_axes, strict=True)
        )
        if found_kind != kind or not matches:
            raise ParityFailed(f"{tower.graph}: {name} is {found[name]}, not {(kind, axes)}")


def _inputs(plan: TowerPlan) -> dict[str, tuple[str, list[object]]]:
    """Return type and axes of each input, which the family's plan and cases define."""
    return {
        name: (
            f"tensor({_ONNX_TYPES.get(feed.dtype.name, feed.dtype.name)})",
            [_BATCH, *(plan.axes[name].get(n, feed.shape[n]) for n in range(1, feed.ndim))],
        )
        for name, feed in plan.cases[0].feeds.items()
    }
