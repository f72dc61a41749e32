"""Which jobs run together, on which slot, when: the rules, without any clock or thread.

One scheduler serves all models. A slot is one batch running at a time; there
are as many as the cores carry, whatever the number of models, so models share
the cores instead of oversubscribing them.
"""

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from itertools import count
from typing import Generic, Protocol, TypeVar

# Jobs of other lengths than the oldest's may join its batch while padding stays
# below this share of it: a padded position costs as much as a real one.
MAX_PADDING = 0.2


class Ticket(Protocol):
    """A job's caller: says whether anybody still waits for the answer."""

    def cancelled(self) -> bool:
        """Whether the answer is no longer wanted."""
        ...


T = TypeVar("T", bound=Ticket)
P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """What a batch of one queue may hold."""

    max_rows: int
    max_positions: int


@dataclass(slots=True, eq=False)
class Entry(Generic[T, P]):
    """One job that waits: its size, its caller, and what to run.

    `rows` run together, each `positions` long. Only entries of equal `key`
    share a batch.
    """

    rows: int
    positions: int
    key: Hashable
    ticket: T
    payload: P
    order: int = field(default=0, init=False)


@dataclass(slots=True, eq=False)
class Queue(Generic[T, P]):
    """The jobs that wait for one graph, oldest first."""

    name: str
    limits: BatchLimits
    waiting: deque[Entry[T, P]] = field(default_factory=deque)


@dataclass(frozen=True, slots=True)
class Batch(Generic[T, P]):
    """Jobs to run together now. It holds a slot until `Scheduler.finished`."""

    queue: Queue[T, P]
    entries: list[Entry[T, P]]

    @property
    def padded_positions(self) -> int:
        """All rows, each as long as the longest."""
        return self.rows * max(entry.positions for entry in self.entries)

    @property
    def rows(self) -> int:
        """Rows of all entries."""
        return sum(entry.rows for entry in self.entries)

    @property
    def positions(self) -> int:
        """Positions that hold input, of all rows."""
        return sum(entry.rows * entry.positions for entry in self.entries)


class Scheduler(Generic[T, P]):
    """Hands out batches while slots are free.

    Work-conserving: with a free slot and a waiting job there is a batch.
    Starvation-free: the oldest job of all is always in the next batch.
    """

    def __init__(self, slots: int) -> None:
        self._free_slots = slots
        self._queues: list[Queue[T, P]] = []
        self._order = count()

    def add_queue(self, name: str, limits: BatchLimits) -> Queue[T, P]:
        """Add a queue for one graph."""
        queue: Queue[T, P] = Queue(name, limits)
        self._queues.append(queue)
        return queue

    def submit(self, queue: Queue[T, P], entry: Entry[T, P]) -> None:
        """Let a job wait in a queue."""
        entry.order = next(self._order)
        queue.waiting.append(entry)

    def next_batch(self) -> Batch[T, P] | None:
        """Take the next batch and a slot for it, or None if there is no slot or no job."""
        if not self._free_slots:
            return None
        for queue in self._queues:
            _drop_cancelled_head(queue)
        waiting = [queue for queue in self._queues if queue.waiting]
        if not waiting:
            return None
        queue = min(waiting, key=lambda queue: queue.waiting[0].order)
        self._free_slots -= 1
        return Batch(queue, _take(queue))

    def finished(self, batch: Batch[T, P]) -> None:
        """Give back the batch's slot."""
        self._free_slots += 1


def _drop_cancelled_head(queue: Queue[T, P]) -> None:
    while queue.waiting and queue.waiting[0].ticket.cancelled():
        queue.waiting.popleft()


def _take(queue: Queue[T, P]) -> list[Entry[T, P]]:
    """Remove and return the oldest job and those that fit best beside it."""
    oldest = queue.waiting[0]
    others = [
        entry for entry in queue.waiting if entry.key == oldest.key and not entry.ticket.cancelled()
    ]
    # Stable: of jobs as near in length, the older come first; the oldest leads.
    others.sort(key=lambda entry: abs(entry.positions - oldest.positions))
    others.remove(oldest)
    taken = [oldest]
    longest = oldest.positions
    rows = oldest.rows
    total = rows * longest
    for entry in others:
        if rows >= queue.limits.max_rows:
            break
        rows_with = rows + entry.rows
        padded = rows_with * max(longest, entry.positions)
        total_with = total + entry.rows * entry.positions
        if (
            rows_with > queue.limits.max_rows
            or padded > queue.limits.max_positions
            or padded - total_with > MAX_PADDING * padded
        ):
            continue
        taken.append(entry)
        longest = max(longest, entry.positions)
        rows = rows_with
        total = total_with
    chosen = set(map(id, taken))
    queue.waiting = deque(
        entry for entry in queue.waiting if id(entry) not in chosen and not entry.ticket.cancelled()
    )
    return taken
