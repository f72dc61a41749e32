"""Queues of waiting jobs, one a graph."""

import math
from bisect import bisect_right, insort
from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from vecserve_server.scheduling.anticipation import Anticipation
from vecserve_server.scheduling.cost_model import CostModel
from vecserve_server.scheduling.options import BatchLimits, JobOptions, Priority

P = TypeVar("P")

# Predictions are off by about this factor, and answers take about so many seconds
# to be written and to travel: deadlines must leave room for both.
_UNCERTAINTY = 1.1
_ANSWER_S = 0.002


def answered_by_s(now_s: float, seconds: float) -> float:
    """Return when a batch that starts now and is predicted to take `seconds` is surely answered."""
    return now_s + _UNCERTAINTY * seconds + _ANSWER_S


@dataclass(slots=True, eq=False)
class Entry(Generic[P]):
    """One job that waits. Times are in seconds of the scheduler's clock.

    `rows` run together, each `positions` long. Only entries of equal `key`
    share a batch.
    """

    queue: "Queue[P]"
    rows: int
    positions: int
    key: Hashable
    options: JobOptions
    payload: P
    priority: Priority = field(default=Priority.INTERACTIVE, init=False)
    arrived_s: float = field(default=0.0, init=False)
    due_s: float = field(default=0.0, init=False)
    order: int = field(default=0, init=False)
    waiting: bool = field(default=False, init=False)
    admitted: bool = field(default=False, init=False)
    alone_s: float = field(default=0.0, init=False)
    """What it would take alone on one core, as predicted when it came."""
    deadline_s: float = field(init=False)
    indexes: "tuple[LengthIndex[P], ...]" = field(default=(), init=False)
    """Those it is in: of its priority, and of its caller in it."""

    def __post_init__(self) -> None:
        """Read the deadline once: it is looked at often."""
        self.deadline_s = self.options.deadline.at_s

    def is_late(self, now_s: float, speedup: float | None = None) -> bool:
        """Whether it cannot make its deadline even if it starts now.

        It runs `speedup` times as fast as on one core; by default as on all.
        """
        if self.deadline_s == math.inf:
            return False
        speedup = self.queue.cost.speedup(self.rows) if speedup is None else speedup
        return answered_by_s(now_s, self.alone_s / speedup) > self.deadline_s


class LengthIndex(Generic[P]):
    """Entries that may share batches, by length, so that the nearest are found at once.

    Entries that stopped waiting stay until they are met.
    """

    def __init__(self) -> None:
        self.waiting = 0
        self._lengths: list[int] = []
        self._entries: dict[int, deque[Entry[P]]] = {}

    def add(self, entry: Entry[P]) -> None:
        """Add one entry."""
        self.waiting += 1
        if entry.positions not in self._entries:
            self._entries[entry.positions] = deque()
            insort(self._lengths, entry.positions)
        self._entries[entry.positions].append(entry)

    def shorter(self, positions: int) -> Iterator[Entry[P]]:
        """Yield waiting entries of at most this length, the longest first."""
        return self._of(self._lengths[: bisect_right(self._lengths, positions)][::-1])

    def longer(self, positions: int) -> Iterator[Entry[P]]:
        """Yield waiting entries above this length, the shortest first."""
        return self._of(self._lengths[bisect_right(self._lengths, positions) :])

    def _of(self, lengths: list[int]) -> Iterator[Entry[P]]:
        for length in lengths:
            entries = self._entries[length]
            while entries and not entries[0].waiting:
                entries.popleft()
            if not entries:
                del self._entries[length]
                self._lengths.remove(length)
                continue
            for entry in entries:
                if entry.waiting:
                    yield entry


@dataclass(slots=True, eq=False)
class Queue(Generic[P]):
    """What waits for one graph. `held` are entries that wait for batch-mates first.

    `slots` are those its batches hold now, `running_rows` the rows in them.
    """

    name: str
    limits: BatchLimits
    cost: CostModel
    waiting_rows: int = 0
    running_rows: int = 0
    slots: int = 0
    anticipation: Anticipation = field(default_factory=Anticipation)
    held: deque[Entry[P]] = field(default_factory=deque)
    _indexes: dict[tuple[Hashable, ...], LengthIndex[P]] = field(default_factory=dict)

    def add(self, entry: Entry[P]) -> None:
        """Let an entry be found by those that look for batch-mates."""
        indexes = []
        for name in _index_names(entry):
            index = self._indexes.get(name)
            if index is None:
                index = self._indexes[name] = LengthIndex()
            index.add(entry)
            indexes.append(index)
        entry.indexes = tuple(indexes)

    def remove(self, entry: Entry[P]) -> None:
        """Forget an entry that no longer waits."""
        for index in entry.indexes:
            index.waiting -= 1
        if not entry.indexes[-1].waiting:
            for name in _index_names(entry):
                if not self._indexes[name].waiting:
                    del self._indexes[name]
        # The index may hold it still, and must not be held by it: only the
        # garbage collector would free them, and the arrays of its job.
        entry.indexes = ()

    def batch_mates(
        self, key: Hashable, priority: Priority, caller: Hashable | None = None
    ) -> LengthIndex[P] | None:
        """Return the waiting entries of a key, of one caller or of all; None if none."""
        return self._indexes.get((key, priority) if caller is None else (key, priority, caller))


def _index_names(entry: Entry[P]) -> list[tuple[Hashable, ...]]:
    return [(entry.key, entry.priority), (entry.key, entry.priority, entry.options.caller)]
