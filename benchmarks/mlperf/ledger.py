"""Ledger of LoadGen's samples: issued, answered, failed."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlperf_loadgen
import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Sample:
    """One LoadGen sample: its id, and the index of its item."""

    id: int
    index: int


class Ledger:
    """The samples of one run: each is answered once, or the run has failed.

    LoadGen waits for ever for an answer that does not come, and crashes on a
    second one, hence this count. Thread-safe.
    """

    def __init__(self) -> None:
        self.issued = 0
        self.answered = 0
        self.failure: BaseException | None = None
        self._open: set[int] = set()
        self._lock = threading.Lock()

    def issue(self, samples: Sequence[Sample]) -> None:
        """Enter samples that LoadGen issued."""
        with self._lock:
            self.issued += len(samples)
            self._open.update(sample.id for sample in samples)

    def complete(self, sample: Sample, vector: Vector) -> None:
        """Give LoadGen a sample's vector. Raises RuntimeError if it has one already."""
        with self._lock:
            if sample.id not in self._open:
                raise RuntimeError(f"item {sample.index} was answered twice")
            self._open.remove(sample.id)
            self.answered += 1
        data = np.ascontiguousarray(vector)
        response = mlperf_loadgen.QuerySampleResponse(sample.id, data.ctypes.data, data.nbytes)
        # Copies the vector when LoadGen logs it.
        mlperf_loadgen.QuerySamplesComplete([response])

    def fail(self, error: BaseException) -> None:
        """Keep the first failure; the run then has no result."""
        with self._lock:
            self.failure = self.failure or error
