"""Load of a measurement: items, request form, arrivals and concurrency."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Any, Self

POOL_MESSAGES = 512
"""Distinct messages of a load, by default; after the last comes the first again. A multiple
of the block of lengths (`workload`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A load, the same, byte by byte, for every target.

    What: items of `tokens` tokens (a range, both ends included), or `files`.
    Form: requests of `items` items; unary, or with `stream` messages on streams
    that each have at most `in_flight` of them unanswered.
    When: closed loop by default, `concurrency` callers (unary calls or streams)
    that each send when answered. With `rate`, requests a second, or `trace`,
    send times in seconds, an open loop; unary requests then wait for none,
    and `concurrency` is the number of streams.
    `pool` is the number of distinct messages: they take memory, and bound how many
    can be in flight on streams.
    `deadline_ms` counts answers within it as good; requests carry it unless
    `tell_deadline` is false.
    """

    tokens: tuple[int, int] = (16, 16)
    files: tuple[str, ...] = ()
    items: int = 1
    stream: bool = False
    in_flight: int = 1
    concurrency: int = 1
    rate: float | None = None
    trace: tuple[float, ...] = ()
    deadline_ms: float | None = None
    tell_deadline: bool = True
    seed: int = 1
    pool: int = POOL_MESSAGES

    @property
    def open(self) -> bool:
        """Whether this is an open loop: send times are set beforehand."""
        return self.rate is not None or bool(self.trace)

    @property
    def sent_timeout_s(self) -> float | None:
        """Timeout of a request, in seconds from its intended send time; None without one."""
        if self.deadline_ms is None or not self.tell_deadline:
            return None
        return self.deadline_ms / 1000

    @property
    def what(self) -> str:
        """Label of what is sent, and in which form."""
        low, high = self.tokens
        text = f"{low} tokens" if low == high else f"{low}-{high} tokens"
        return f"{len(self.files)} files{self.form}" if self.files else text + self.form

    @property
    def form(self) -> str:
        """Label of the request form; "" where each item is a unary call."""
        if self.stream:
            return f", streams of {self.items} x {self.in_flight}"
        return "" if self.items == 1 else f", {self.items} a call"

    @property
    def pressure(self) -> str:
        """Label of the load level: c8 is a closed loop of 8 callers."""
        if self.trace:
            return "trace"
        return f"c{self.concurrency}" if self.rate is None else f"{self.rate:g}/s"

    def send_times(self, round_number: int, share: tuple[int, int]) -> Iterator[float]:
        """Yield this client's send times of an open loop, in seconds, without end.

        `share` is (which, of how many) clients. Poisson arrivals, each client's
        its part of the rate, so that together they are Poisson too; a trace is
        divided round-robin, and repeats after its last time.
        """
        which, clients = share
        if self.trace:
            yield from _repeated(self.trace, which, clients)
        assert self.rate is not None
        random = Random(f"{self.seed} {round_number} {which}")
        now = 0.0
        while True:
            now += random.expovariate(self.rate / clients)
            yield now

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """Return the load that `to_json` wrote."""
        tuples = {name: tuple(fields[name]) for name in ("tokens", "files", "trace")}
        return cls(**{**fields, **tuples})


def _repeated(trace: tuple[float, ...], which: int, clients: int) -> Iterator[float]:
    mean_gap = (trace[-1] - trace[0]) / max(len(trace) - 1, 1)
    for lap in count():
        offset = lap * (trace[-1] + mean_gap)
        for number, time_s in enumerate(trace, lap * len(trace)):
            if number % clients == which:
                yield offset + time_s


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundSpec:
    """Parameters of one client's round: a load, for `lead_s` unmeasured and `seconds` measured.

    `share` is (which, of how many) client processes this one is.
    """

    load: Load
    round: int
    lead_s: float
    seconds: float
    share: tuple[int, int] = (0, 1)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """Return the spec that `to_json` wrote."""
        which, clients = fields["share"]
        load = Load.from_json(fields["load"])
        return cls(**{**fields, "load": load, "share": (which, clients)})
