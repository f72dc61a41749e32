"""Proof that a graph keeps its contract and computes what PyTorch computes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from vecserve_export.errors import ParityFailed
from vecserve_export.plan import TowerPlan
from vecserve_server.repository.manifest import (
    AudioInput,
    ImageInput,
    Parity,
    Pooling,
    TextInput,
    Tower,
)

# What fp32 arithmetic in another order may change.
MAX_ABS_ERROR = 1e-4
MIN_COSINE = 0.99999

Axis = str | int
_BATCH = "batch"


@dataclass(frozen=True, slots=True)
class Difference:
    """The largest error, relative to the reference's scale, and the smallest cosine."""

    max_abs_error: float
    min_cosine: float

    def worse(self, other: "Difference") -> "Difference":
        """Return the worse of both figures."""
        return Difference(
            max(self.max_abs_error, other.max_abs_error), min(self.min_cosine, other.min_cosine)
        )

    @property
    def tolerable(self) -> bool:
        """Whether both are within fp32's tolerance. A NaN is not."""
        return self.max_abs_error <= MAX_ABS_ERROR and self.min_cosine >= MIN_COSINE

    def __str__(self) -> str:
        return f"max abs error {self.max_abs_error:.2g}, min cosine {self.min_cosine:.9f}"


def compare(actual: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> Difference:
    """Compare vectors along the last axis, in float64."""
    one, two = actual.astype(np.float64), expected.astype(np.float64)
    norms = np.linalg.norm(one, axis=-1) * np.linalg.norm(two, axis=-1)
    return Difference(
        max_abs_error=float(np.abs(one - two).max() / np.abs(two).max()),
        min_cosine=float(((one * two).sum(-1) / norms).min()),
    )


def verify(plan: TowerPlan, graph: Path, dimensions: int) -> Parity:
    """Run a graph on its cases. Raises ParityFailed with the measured difference."""
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    _check_contract(plan.tower, session, dimensions)
    names = [output.name for output in plan.tower.outputs]
    worst = Difference(0.0, 1.0)
    failures = []
    for case in plan.cases:
        for name, actual, expected in zip(
            names, session.run(names, case.feeds), case.expected, strict=True
        ):
            if actual.shape != expected.shape:
                raise ParityFailed(f"{case.name}: {name} has shape {actual.shape}")
            difference = compare(actual, expected)
            worst = worst.worse(difference)
            if not difference.tolerable:
                failures.append(f"  {case.name}: {name}: {difference}")
    if failures:
        raise ParityFailed(
            "\n".join(
                [
                    f"{plan.tower.graph} is too far from PyTorch (allowed: max abs error "
                    f"{MAX_ABS_ERROR}, min cosine {MIN_COSINE}); nothing was written:",
                    *failures,
                ]
            )
        )
    return Parity(
        max_abs_error=worst.max_abs_error,
        min_cosine=worst.min_cosine,
        max_abs_error_allowed=MAX_ABS_ERROR,
        min_cosine_allowed=MIN_COSINE,
        cases=tuple(case.name for case in plan.cases),
    )


def worst(parities: Sequence[Parity]) -> Parity:
    """Return the worst figures of several towers, and all their cases."""
    return Parity(
        max_abs_error=max(parity.max_abs_error for parity in parities),
        min_cosine=min(parity.min_cosine for parity in parities),
        max_abs_error_allowed=MAX_ABS_ERROR,
        min_cosine_allowed=MIN_COSINE,
        cases=tuple(case for parity in parities for case in parity.cases),
    )


def _check_contract(tower: Tower, session: onnxruntime.InferenceSession, dimensions: int) -> None:
    """Check names, types and axes, a named axis being a dynamic one."""
    wanted = _inputs(tower) | {
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


def _inputs(tower: Tower) -> dict[str, tuple[str, list[object]]]:
    match tower.input:
        case TextInput():
            tokens: list[object] = [_BATCH, "sequence"]
            return {
                "input_ids": ("tensor(int64)", tokens),
                "attention_mask": ("tensor(int64)", tokens),
            }
        case ImageInput(crop_height=height, crop_width=width):
            return {"pixels": ("tensor(uint8)", [_BATCH, height, width, 3])}
        case AudioInput(window_samples=samples):
            return {
                "waveform": ("tensor(float)", [_BATCH, samples]),
                "lengths": ("tensor(int64)", [_BATCH]),
            }
