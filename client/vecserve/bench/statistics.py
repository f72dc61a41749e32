"""Statistics of rounds: exact percentiles, intervals over rounds, ratios within a round."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf, isnan, nan, sqrt
from statistics import fmean, stdev

from vecserve.bench.load import RoundSpec
from vecserve.bench.samples import Samples

PERCENTILES = (50.0, 90.0, 99.0, 99.9, 100.0)

# Two-sided 95 % points of Student's t for 1, 2, ... degrees of freedom (Fisher and Yates, 1938).
_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
_T95_BEYOND = 2.2
_INSTANT_S = 1e-9


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over rounds, and half the width of its 95 % interval (infinite for one round)."""

    mean: float
    margin: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Estimate":
        """Return the estimate of rounds' values, taken to be normally distributed; nan is none."""
        values = [value for value in values if not isnan(value)]
        if not values:
            return cls(nan, inf)
        if len(values) == 1:
            return cls(values[0], inf)
        degrees = len(values) - 1
        t = _T95[degrees - 1] if degrees <= len(_T95) else _T95_BEYOND
        return cls(fmean(values), t * stdev(values) / sqrt(len(values)))


@dataclass(frozen=True, slots=True)
class RoundFigures:
    """One round of one target under one load.

    `throughput` is items with vectors a second: in an open loop those that were
    answered in the measured time; in a closed one, where a few long requests
    may fill it, each by the share of its duration that lies in that time.
    `latencies_ms` are those, sorted, of requests meant to be sent in
    it and wholly answered. `goodput` is the share of the items meant for that
    time that were answered within the deadline (without one, answered at all),
    `goodput_rate` those a second. `answered` and `errors` are of the whole
    round, lead-in included. `late_ms` is how much later
    than intended the median request left the client. `server_cpu_s` and
    `server_pss_mb` are None where the server's process is not known.
    """

    throughput: float
    latencies_ms: tuple[float, ...]
    goodput: float
    goodput_rate: float
    requests: int
    answered: int
    errors: Counter[str]
    late_ms: float
    client_cpu_s: float
    server_cpu_s: float | None
    server_pss_mb: float | None
    note: str


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the smallest value that `percent` of all do not exceed; nan without any."""
    if not ordered:
        return nan
    return ordered[max(ceil(len(ordered) * percent / 100) - 1, 0)]


def figures(
    samples: Samples,
    spec: RoundSpec,
    *,
    client_cpu_s: float,
    server_cpu_s: float | None,
    server_pss_mb: float | None,
    note: str,
) -> RoundFigures:
    """Reduce a round's samples; those of its lead-in are left out, but their errors count."""
    start_s = max(spec.lead_s, samples.start_s)
    end_s = start_s + spec.seconds
    deadline_s = inf if spec.load.deadline_ms is None else spec.load.deadline_ms / 1000
    in_window = 0.0
    within = due = requests = 0
    latencies = []
    late = []
    rows = zip(
        samples.intended_s,
        samples.sent_s,
        samples.done_s,
        samples.items,
        samples.good,
        strict=True,
    )
    for intended_s, sent_s, done_s, items, good in rows:
        if not spec.load.open:
            inside_s = min(done_s, end_s) - max(sent_s, start_s)
            in_window += good * max(inside_s, 0) / max(done_s - sent_s, _INSTANT_S)
        elif start_s <= done_s < end_s:
            in_window += good
        if not start_s <= intended_s < end_s:
            continue
        requests += 1
        due += items
        late.append(sent_s - intended_s)
        if done_s - intended_s <= deadline_s:
            within += good
        if good == items:
            latencies.append((done_s - intended_s) * 1000)
    return RoundFigures(
        throughput=in_window / spec.seconds,
        latencies_ms=tuple(sorted(latencies)),
        goodput=within / due if due else nan,
        goodput_rate=within / spec.seconds,
        requests=requests,
        answered=sum(samples.good),
        errors=samples.errors,
        late_ms=percentile(sorted(late), 50) * 1000,
        client_cpu_s=client_cpu_s,
        server_cpu_s=server_cpu_s,
        server_pss_mb=server_pss_mb,
        note=note,
    )


def pooled_percentile(rounds: Sequence[RoundFigures], percent: float) -> float:
    """Return a percentile of all rounds' latencies together, in ms."""
    return percentile(sorted(ms for one in rounds for ms in one.latencies_ms), percent)


def ratio(mine: Sequence[float], others: Sequence[float]) -> Estimate:
    """Estimate the ratio of two targets, round by round: what slows both cancels."""
    pairs = zip(mine, others, strict=True)
    return Estimate.of([own / other for own, other in pairs if other])
