"""Batch filling: which waiting jobs join the one that goes first."""

from collections.abc import Hashable, Iterator
from typing import Generic

from vecserve_server.scheduling.options import Priority
from vecserve_server.scheduling.queue import Entry, P, answered_by_s

# A job joins while that saves at least this share of the batch's time against
# running it alone: below, batches grow long and gain next to nothing. What
# makes a batch a long one, in seconds, for which others wait, must save more.
_MIN_SAVING = 0.03
_LONG_S = 0.1
_MIN_SAVING_OF_LONG = 0.1
# Bulk work may make an interactive batch this many times as long.
_BULK_STRETCH = 1.5
# A job that keeps others waiting longer than this rides with nobody else's.
MAX_BATCH_S = 0.25


def fill(
    leader: Entry[P], now_s: float, max_rows: int, max_s: float, speedup: float
) -> tuple[list[Entry[P]], list[Entry[P]]]:
    """Return the entries to run with `leader` (itself included) and the late ones that were met.

    The leader's caller goes first, since it is that caller's turn, then the
    others. Those nearest in length come first, so that padding stays small: a
    job joins only if computing it padded takes less than computing it alone later,
    and the batch no longer than `max_s`.
    """
    batch = _Filling(leader, now_s, max_rows, speedup)
    batch.take_from(leader.priority, max_s, leader.options.caller)
    batch.take_from(leader.priority, max_s)
    if leader.priority is Priority.INTERACTIVE:
        # One who has so much waiting that part of it counts as bulk, and shares
        # the batch with nobody, is not to be protected from the own bulk.
        if leader.options.priority is None and batch.is_of(leader.options.caller):
            batch.take_from(Priority.BULK, max_s, leader.options.caller)
        batch.take_from(Priority.BULK, min(max_s, _BULK_STRETCH * batch.takes_s))
    else:
        batch.take_from(Priority.INTERACTIVE, max_s)
    return batch.entries, batch.late


class _Filling(Generic[P]):
    """A batch in the making."""

    def __init__(self, leader: Entry[P], now_s: float, max_rows: int, speedup: float) -> None:
        self.entries = [leader]
        self._met = {id(leader)}
        self.late: list[Entry[P]] = []
        self.seconds = leader.alone_s
        self._leader = leader
        self._queue = leader.queue
        self._rows = leader.rows
        self._longest = leader.positions
        self._now_s = now_s
        self._max_rows = max_rows
        self._speedup = speedup
        self._deadline_s = leader.deadline_s

    def is_of(self, caller: Hashable) -> bool:
        """Whether nobody else's entries are in it."""
        return all(entry.options.caller == caller for entry in self.entries)

    @property
    def takes_s(self) -> float:
        """How long it will take."""
        return self.seconds / self._speedup

    def take_from(self, priority: Priority, max_s: float, caller: Hashable | None = None) -> None:
        """Take entries of a priority that fit, of one caller or of all, nearest in length first."""
        index = self._queue.batch_mates(self._leader.key, priority, caller)
        if index is None or self._rows >= self._max_rows:
            return
        if caller is None and priority is self._leader.priority:
            own = self._queue.batch_mates(self._leader.key, priority, self._leader.options.caller)
            # The leader's caller has been asked already, and there is nobody else.
            if own is not None and own.waiting == index.waiting:
                return
        length = self._leader.positions
        shorter, longer = index.shorter(length), index.longer(length)
        below, above = self._next(shorter), self._next(longer)
        # What does not fit closes its side: those behind it fit even less.
        while self._rows < self._max_rows:
            if below and (not above or length - below.positions <= above.positions - length):
                below = self._next(shorter) if self._try(below, max_s) else None
            elif above:
                above = self._next(longer) if self._try(above, max_s) else None
            else:
                return

    def _next(self, side: Iterator[Entry[P]]) -> Entry[P] | None:
        for entry in side:
            if id(entry) in self._met:
                continue
            if entry.is_late(self._now_s, self._speedup):
                self._met.add(id(entry))
                self.late.append(entry)
                continue
            return entry
        return None

    def _try(self, entry: Entry[P], max_s: float) -> bool:
        rows = self._rows + entry.rows
        longest = max(self._longest, entry.positions)
        limits = self._queue.limits
        if rows > self._max_rows or rows * longest > limits.max_positions:
            return False
        together = self._queue.cost.seconds(rows, longest)
        saved = self.seconds + entry.alone_s - together
        takes_s = together / self._speedup
        min_saving = _MIN_SAVING if takes_s <= _LONG_S else _MIN_SAVING_OF_LONG
        if takes_s > max_s or saved < min_saving * together:
            return False
        deadline_s = min(self._deadline_s, entry.deadline_s)
        if answered_by_s(self._now_s, takes_s) > deadline_s:
            return False
        self._met.add(id(entry))
        self.entries.append(entry)
        self._rows, self._longest, self.seconds = rows, longest, together
        self._deadline_s = deadline_s
        return True
