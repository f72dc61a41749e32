"""Where LoadGen's samples come in and their vectors go out."""

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
    """LoadGen's name for one question, and the item it asks for."""

    id: int
    index: int


class Desk:
    """The account of one run: every sample is answered once, or the run has failed.

    LoadGen waits for ever for an answer that does not come, and crashes on a
    second one, so it is we who count. Threads may share it.
    """

    def __init__(self) -> None:
        self.issued = 0
        self.answered = 0
        self.failure: BaseException | None = None
        self._open: set[int] = set()
        self._lock = threading.Lock()

    def take(self, samples: Sequence[Sample]) -> None:
        """Note what LoadGen issued."""
        with self._lock:
            self.issued += len(samples)
            self._open.update(sample.id for sample in samples)

    def answer(self, sample: Sample, vector: Vector) -> None:
        """Hand LoadGen a sample's vector. Raises RuntimeError if it has one already."""
        with self._lock:
            if sample.id not in self._open:
                raise RuntimeError(f"item {sample.index} was answered twice")
            self._open.remove(sample.id)
            self.answered += 1
        data = np.ascontiguousarray(vector)
        response = mlperf_loadgen.QuerySampleResponse(sample.id, data.ctypes.data, data.nbytes)
        # Copies the vector, if LoadGen wants it.
        mlperf_loadgen.QuerySamplesComplete([response])

    def fail(self, error: BaseException) -> None:
        """Keep the first failure: the run has no result."""
        with self._lock:
            self.failure = self.failure or error
