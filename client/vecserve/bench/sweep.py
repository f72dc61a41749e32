"""Search for the highest rate of an open loop that holds a latency target."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt

from vecserve.bench.load import Load, RoundSpec
from vecserve.bench.statistics import RoundFigures, figures, percentile
from vecserve.bench.workers import Workers

_KEEPS_UP = 0.95
"""A server that answers less than this share of the offered rate has a growing queue."""


@dataclass(slots=True)
class Search:
    """A target's search state: the highest rate known to hold and the lowest known not to."""

    target: str
    rate: float
    held: float | None = None
    broke: float | None = None

    def learn(self, held: bool) -> None:
        """Record the result of `rate`, and choose the next: doubled, halved, or between."""
        if held:
            self.held = self.rate
        else:
            self.broke = self.rate
        if self.broke is None:
            self.rate *= 2
        elif self.held is None:
            self.rate /= 2
        else:
            self.rate = sqrt(self.held * self.broke)

    def done(self, tolerance: float, lowest: float) -> bool:
        """Whether the two rates are within `tolerance`, or none above `lowest` holds."""
        if self.held is None:
            return self.rate < lowest
        return self.broke is not None and self.broke <= self.held * (1 + tolerance)


@dataclass(frozen=True, slots=True)
class Step:
    """One trial of one target at one rate."""

    target: str
    rate: float
    held: bool
    figures: RoundFigures


def holds(one: RoundFigures, rate: float, items: int, p99_ms: float) -> bool:
    """Whether a round had no error, kept up with the rate, and had its p99 within `p99_ms`."""
    return (
        not one.errors
        and one.throughput >= _KEEPS_UP * rate * items
        and percentile(one.latencies_ms, 99) <= p99_ms
    )


def sweep(
    load: Load,
    workers: Mapping[str, Workers],
    *,
    p99_ms: float,
    seconds: float,
    lead_s: float,
    tolerance: float,
    show: Callable[[Sequence[Search], Step | None], None],
) -> tuple[list[Search], list[Step]]:
    """Search for every target, their steps interleaved, starting at the load's rate.

    A target with nothing at 1/64 of that rate is given up. Raises BenchError.
    """
    assert load.rate is not None
    searches = [Search(name, load.rate) for name in workers]
    lowest = load.rate / 64
    steps: list[Step] = []
    number = 0
    while active := [one for one in searches if not one.done(tolerance, lowest)]:
        number += 1
        for search in active:
            spec = RoundSpec(
                load=replace(load, rate=search.rate), round=number, lead_s=lead_s, seconds=seconds
            )
            workers[search.target].start(spec)
            report = workers[search.target].result()
            one = figures(
                report.samples,
                spec,
                client_cpu_s=report.client_cpu_s,
                server_cpu_s=None,
                server_pss_mb=None,
                note=report.note,
            )
            # The arrivals are random: the rate that this round really had.
            offered = one.requests / seconds
            held = holds(one, offered, load.items, p99_ms)
            steps.append(Step(search.target, search.rate, held, one))
            search.learn(held)
            show(searches, steps[-1])
    return searches, steps
