"""Request statistics of one version of a model since it was loaded."""

import time
from collections import deque
from dataclasses import dataclass, field

# Batches remembered, so that one is counted once however many requests it
# held: they are answered at the same moment, so few suffice.
_BATCHES_REMEMBERED = 256


@dataclass(slots=True)
class DurationStat:
    """How often something was, and how long it took in all."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Count it once more."""
        self.count += 1
        self.seconds += seconds


@dataclass(frozen=True, slots=True)
class RequestTimings:
    """Where one request's time went, in seconds.

    `batches` are those its rows rode in: start, of time.perf_counter(), and rows.
    """

    input_s: float
    queue_s: float
    infer_s: float
    output_s: float
    batches: dict[float, int]


@dataclass(slots=True)
class BatchDurations:
    """What batches of one size cost."""

    input: DurationStat = field(default_factory=DurationStat)
    infer: DurationStat = field(default_factory=DurationStat)
    output: DurationStat = field(default_factory=DurationStat)


@dataclass(slots=True)
class Statistics:
    """Counts of requests, rows and batches. The counts of the parts equal `success.count`."""

    success: DurationStat = field(default_factory=DurationStat)
    fail: DurationStat = field(default_factory=DurationStat)
    queue: DurationStat = field(default_factory=DurationStat)
    input: DurationStat = field(default_factory=DurationStat)
    infer: DurationStat = field(default_factory=DurationStat)
    output: DurationStat = field(default_factory=DurationStat)
    by_batch_size: dict[int, BatchDurations] = field(default_factory=dict)
    rows: int = 0
    batches: int = 0
    last_request_ms: int = 0
    _recent: deque[float] = field(default_factory=lambda: deque(maxlen=_BATCHES_REMEMBERED))

    def accepted(self) -> None:
        """Note that a request came."""
        self.last_request_ms = time.time_ns() // 1_000_000

    def succeeded(self, rows: int, seconds: float, parts: RequestTimings) -> None:
        """Count a request of `rows` that took `seconds` in all."""
        self.rows += rows
        self.success.add(seconds)
        self.queue.add(parts.queue_s)
        self.input.add(parts.input_s)
        self.infer.add(parts.infer_s)
        self.output.add(parts.output_s)
        for started_s, size in parts.batches.items():
            if started_s in self._recent:
                continue
            self._recent.append(started_s)
            self.batches += 1
            spent = self.by_batch_size.setdefault(size, BatchDurations())
            spent.input.add(parts.input_s)
            spent.infer.add(parts.infer_s)
            spent.output.add(parts.output_s)

    def failed(self, seconds: float) -> None:
        """Count a request that failed after `seconds`."""
        self.fail.add(seconds)
