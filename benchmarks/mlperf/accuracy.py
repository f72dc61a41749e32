"""Accuracy of LoadGen's answers: their cosine to those of `client.embed`."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.mlperf.ledger import Vector
from benchmarks.mlperf.loadgen import RunError

LEAST_COSINE = 0.99999


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Result of a run for accuracy."""

    answers: int
    """Number of answers in LoadGen's log: one an item."""
    least_cosine: float
    """Least cosine of an answer to `client.embed` of the same item."""
    nearest_other: float
    """Greatest cosine of two different items; below `LEAST_COSINE`, so that a mix-up shows."""


def compare(answers: Sequence[tuple[int, Vector]], expected: Vector) -> Accuracy:
    """Compare LoadGen's answers, as (index, vector), with the rows of `expected`, [items, dims].

    Raises RunError unless every item was answered once, with a cosine of at
    least LEAST_COSINE, and no two items are as near as that to each other.
    """
    indices = sorted(index for index, _ in answers)
    if indices != list(range(len(expected))):
        raise RunError(f"{len(expected)} items, but LoadGen's log has answers to {indices}")
    given = np.stack([vector for _, vector in sorted(answers, key=lambda answer: answer[0])])
    cosines = _unit(given) @ _unit(expected).T
    own = np.diagonal(cosines)
    if (least := float(own.min())) < LEAST_COSINE:
        raise RunError(
            f"item {int(own.argmin())}: the answer's cosine to client.embed's is {least:.6f}, "
            f"not {LEAST_COSINE} or more"
        )
    others = cosines - np.diag(np.full(len(cosines), np.inf))
    if (nearest := float(others.max())) >= LEAST_COSINE:
        raise RunError(f"two items have a cosine of {nearest:.6f}: a mix-up would not show")
    return Accuracy(len(answers), least, nearest)


def _unit(rows: Vector) -> Vector:
    doubles = rows.astype(np.float64)
    unit: Vector = doubles / np.linalg.norm(doubles, axis=1, keepdims=True)
    return unit
