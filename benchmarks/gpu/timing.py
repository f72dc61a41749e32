"""Latency and throughput of repeated calls."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from vecserve.bench.statistics import percentile

_WARM_UP_CALLS = 3


@dataclass(frozen=True, slots=True)
class Timing:
    """Calls of `rows` rows, one after the other; latencies are of a call."""

    rows: int
    items_per_s: float
    p50_ms: float
    p99_ms: float


def time_calls(call: Callable[[], object], rows: int, seconds: float) -> Timing:
    """Call for at least `seconds`, after a warm-up; `call` must return when its result is ready."""
    for _ in range(_WARM_UP_CALLS):
        call()
    took: list[float] = []
    while not took or sum(took) < seconds:
        began = time.perf_counter()
        call()
        took.append(time.perf_counter() - began)
    ordered = sorted(one * 1000 for one in took)
    return Timing(
        rows=rows,
        items_per_s=rows * len(took) / sum(took),
        p50_ms=percentile(ordered, 50),
        p99_ms=percentile(ordered, 99),
    )
