"""Cost model: how long a batch takes, learnt from batches that ran.

Transformers spend, for r rows of n positions, a fixed part (launching the
kernels, reading the weights), a part a row, a part a position (the linear
layers) and a part a pair of positions (attention):

    seconds(r, n) = a + r * (b + c * n + d * n * n)

Images and audio windows have n = 1, where the last three are one.

No such sum knows the processor's caches, for which two long rows together may
take longer than one after the other. So the prediction is corrected by what
batches of about as many rows, about as long, took in proportion to it.
"""

import math
from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# Recent batches that the fit looks at, and how many new ones bring a new fit.
_MEMORY = 256
_REFIT_EVERY = 64
# How much a batch on all cores counts against those before it.
_SMOOTHING = 0.1
# How many batches as predicted a correction starts from.
_PRIOR = 1


@dataclass(frozen=True, slots=True)
class Sample:
    """A batch that ran."""

    rows: int
    positions: int
    seconds: float


class CostModel:
    """Predicts seconds of compute. Starts from `samples`, at least one; `observe` keeps it current.

    `speedup` is how many times as fast batches are on all cores as on one, to
    start from.
    """

    def __init__(self, samples: Iterable[Sample], speedup: float) -> None:
        self._calibration = list(samples)
        self._recent: deque[Sample] = deque(maxlen=_MEMORY)
        self._since_fit = 0
        self._speedup = speedup
        self._speedups: dict[int, float] = {}
        self._fit()
        self._first_terms = self._terms

    def seconds(self, rows: int, positions: int) -> float:
        """Predict a batch of `rows`, padded to `positions` each, on one core."""
        return self._correction(rows, positions) * _sum(self._terms, rows, positions)

    def first_seconds(self, rows: int, positions: int) -> float:
        """Predict as `seconds` did at first, whatever has been observed since."""
        return _sum(self._first_terms, rows, positions)

    def _correction(self, rows: int, positions: int) -> float:
        """Between those of the nearest numbers of rows: a step would end every batch before it."""
        place = math.log2(rows) + 0.5
        below = int(place)
        length = positions.bit_length()
        one = self._corrections.get((below, length))
        other = self._corrections.get((below + 1, length))
        if one is None or other is None:
            return one or other or 1.0
        return one + (place - below) * (other - one)

    @property
    def fixed_s(self) -> float:
        """What every batch costs, however small, in seconds on one core."""
        return self._terms[0]

    def speedup(self, rows: int) -> float:
        """Return how many times as fast a batch of about `rows` is on all cores as on one."""
        return self._speedups.get(rows.bit_length(), self._speedup)

    def observe_on_all(self, sample: Sample) -> None:
        """Learn from a batch that ran on all cores.

        Only how fast they are: what it would have taken on one is not known.
        """
        seen = self.seconds(sample.rows, sample.positions) / sample.seconds
        known = self.speedup(sample.rows)
        self._speedups[sample.rows.bit_length()] = known + _SMOOTHING * (seen - known)

    def observe(self, sample: Sample) -> None:
        """Learn from a batch that ran on one core."""
        self._recent.append(sample)
        self._since_fit += 1
        if self._since_fit >= _REFIT_EVERY:
            self._fit()

    def _fit(self) -> None:
        samples = [*self._calibration, *self._recent]
        rows = np.array([sample.rows for sample in samples], dtype=float)
        length = np.array([sample.positions for sample in samples], dtype=float)
        seconds = np.array([sample.seconds for sample in samples])
        columns = np.stack([np.ones_like(rows), rows, rows * length, rows * length**2], axis=1)
        # Divided by the seconds, so that what is kept small is the relative error.
        weights = np.ones_like(seconds)
        weights[: len(self._calibration)] /= 1 + len(self._recent) / _REFIT_EVERY
        self._terms = _least_squares_of_positive_terms(
            columns * (weights / seconds)[:, np.newaxis], weights
        )
        self._since_fit = 0
        took = (seconds / (columns @ self._terms)).tolist()
        shares: dict[tuple[int, int], list[float]] = defaultdict(list)
        for sample, share in zip(samples, took, strict=True):
            shares[sample.rows.bit_length(), sample.positions.bit_length()].append(share)
        self._corrections = {
            shape: (_PRIOR + sum(seen)) / (_PRIOR + len(seen)) for shape, seen in shares.items()
        }


def _sum(terms: list[float], rows: int, positions: int) -> float:
    a, b, c, d = terms
    return a + rows * (b + positions * (c + positions * d))


def _least_squares_of_positive_terms(
    columns: npt.NDArray[np.float64], targets: npt.NDArray[np.float64]
) -> list[float]:
    """Solve columns @ x = targets in the least-squares sense with x >= 0.

    Columns whose term comes out negative are left out, the most negative
    first: with four of them this is as good as a full active-set method.
    """
    scale = np.maximum(np.abs(columns).max(axis=0), np.finfo(float).tiny)
    kept = list(range(columns.shape[1]))
    while True:
        solution, *_ = np.linalg.lstsq(columns[:, kept] / scale[kept], targets, rcond=1e-6)
        if len(kept) == 1 or solution.min() >= 0:
            break
        kept.pop(int(solution.argmin()))
    terms = [0.0] * columns.shape[1]
    for column, value in zip(kept, solution / scale[kept], strict=True):
        terms[column] = max(float(value), 0.0)
    return terms
