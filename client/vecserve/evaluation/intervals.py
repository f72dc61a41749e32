"""Candidates compared on a task, with bootstrap intervals (Efron, 1979).

Cases are drawn again, with replacement, and every candidate is measured on the same
samples: most of what makes a case hard is hard for all, so differences are far surer than
the values themselves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vecserve.evaluation.encodings import Encoding
from vecserve.evaluation.metrics import Floats
from vecserve.evaluation.task import Task

SAMPLES = 4_000
"""Twenty lie beyond each end of the narrowest interval of ten candidates."""
CONFIDENCE = 0.95
_SAMPLED_VALUES = 2**22
"""Values that are held at a time: 32 MiB, several times."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model, and the form in which its vectors are kept."""

    model: str
    version: str
    trained: bool
    dimensions: int
    of_dimensions: int
    """How many the model gives."""
    encoding: Encoding
    bytes: int
    """Of a vector."""
    items_s: float
    """Items embedded a second, in this run."""

    @property
    def is_whole(self) -> bool:
        """Whether these are the vectors as the model gives them."""
        return self.dimensions == self.of_dimensions and self.encoding == "float32"

    def __str__(self) -> str:
        form = []
        if self.dimensions < self.of_dimensions:
            form.append(f"{self.dimensions} of {self.of_dimensions}")
        if self.encoding != "float32":
            form.append(self.encoding)
        return f"{self.model} ({', '.join(form)})" if form else self.model


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        # z: never -0.000.
        return f"{self.value:z.3f} ({self.low:z.3f} to {self.high:z.3f})"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a candidate reached."""

    candidate: Candidate
    metrics: tuple[Estimate, ...]
    """In the order of the task's; 95 % intervals."""
    behind: Estimate | None
    """How far behind the best by the first metric; None for the best itself.

    The intervals of all trained candidates hold together with 95 % (Bonferroni): of many,
    one would else look worse by chance.
    """


def compare(task: Task, candidates: Sequence[Candidate], scores: Sequence[Floats]) -> list[Outcome]:
    """Return what the candidates reached, in their order; `scores` are `task.score`'s, one each.

    The best is the trained one with the highest value. The same data gives the same intervals.
    """
    # Here, not above: scipy is an extra, and slow to import.
    from scipy.stats import bootstrap

    every = np.stack(scores)

    def statistic(sample: Any, axis: int) -> Floats:
        return task.statistic(every, np.atleast_2d(sample))

    drawn = bootstrap(
        (np.arange(task.count),),
        statistic,
        n_resamples=SAMPLES,
        batch=max(1, _SAMPLED_VALUES // every.size),
        vectorized=True,
        method="percentile",
        rng=0,
    ).bootstrap_distribution
    values = task.statistic(every, np.arange(task.count)[np.newaxis])[..., 0]
    eligible = [own.trained for own in candidates]
    first = np.where(eligible, values[:, 0], -np.inf) if any(eligible) else values[:, 0]
    best = int(np.argmax(first))
    together = 1 - (1 - CONFIDENCE) / max(1, sum(eligible) - 1)
    outcomes = []
    for place, candidate in enumerate(candidates):
        metrics = [
            _estimate(float(value), samples, CONFIDENCE)
            for value, samples in zip(values[place], drawn[place], strict=True)
        ]
        difference = float(values[best, 0] - values[place, 0])
        behind = _estimate(difference, drawn[best, 0] - drawn[place, 0], together)
        outcomes.append(Outcome(candidate, tuple(metrics), None if place == best else behind))
    return outcomes


def _estimate(value: float, samples: Floats, confidence: float) -> Estimate:
    tail = (1 - confidence) / 2
    low, high = np.quantile(samples, [tail, 1 - tail])
    return Estimate(value, float(low), float(high))
