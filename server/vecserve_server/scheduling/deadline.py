"""Deadline of an answer: the time after which it is worth nothing."""

import math
import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Deadline:
    """A time of time.perf_counter(), in seconds; infinity for none."""

    at_s: float = math.inf

    def within(self, seconds: float | None) -> "Deadline":
        """Return the earlier of this one and `seconds` from now; None is no limit."""
        return self if seconds is None else Deadline(min(self.at_s, time.perf_counter() + seconds))

    @property
    def remaining_s(self) -> float | None:
        """Seconds until then, at least 0; None without a deadline."""
        return None if self.at_s == math.inf else max(self.at_s - time.perf_counter(), 0.0)


NO_DEADLINE = Deadline()
