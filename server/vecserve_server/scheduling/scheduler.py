"""Scheduler: which jobs run together, on how many cores, when; without clock or thread.

One scheduler serves all models. A slot is a core: a batch takes one core, or
all of them, so models share the cores instead of oversubscribing them.

- Work-conserving: with a free slot and a waiting job there is a batch, but for
  queues that ask for a delay, and while callers who were just answered are on
  their way back (see `anticipation`).
- Fair: see `fairness`. The job whose turn it is leads the next batch.
- Of one caller's jobs the earliest due goes first: by its deadline, or by its
  age where it has none or a late one, so nothing starves.
- A job that cannot make its deadline is refused when it comes, or dropped before
  it costs compute.
"""

import math
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from itertools import count
from typing import Generic

from vecserve_server.scheduling.batch_filling import MAX_BATCH_S, fill
from vecserve_server.scheduling.cost_model import CostModel, Sample
from vecserve_server.scheduling.fairness import FairQueue
from vecserve_server.scheduling.options import Priority
from vecserve_server.scheduling.queue import Entry, P, Queue

# Without a deadline a job is due this long after it came: jobs with earlier
# deadlines overtake it until then, and none that come later.
_PATIENCE_S = 1.0
# A batch takes all cores only if that keeps jobs that come meanwhile waiting
# hardly longer than this, or if they could only be for the same graph.
_LONG_ALL_CORES_S = 0.05
# All cores must be this much faster than one for a lone batch to take them.
_MIN_SPEEDUP = 1.15
# For many callers to share batches on all cores, rather than have a core each, those
# must do this share of what each would do on its own, a job alone must take no
# longer than this, and what every batch costs must be this share of it.
_CROWD_SPEEDUP = 0.6
_CROWD_JOB_S = 0.01
_CROWD_FIXED_COST = 0.25
# Where all cores seem too slow for it, a lone batch still takes them this often.
_TRY_EVERY = 32
_SMOOTHING = 0.1
# For so long after a caller with nothing else waiting asked for something, the
# bulk of others runs in batches no longer than this, in seconds: the next such
# job has to wait for one. Alone, it runs in longer ones, which save a few per cent.
_BESIDE_S = 2.0
_MAX_BULK_BESIDE_S = 0.03


def use_of_cores(cost: CostModel, cores: int) -> str:
    """Say how batches of a graph will use the cores, for a person."""
    if cost.speedup(rows=1) >= _CROWD_SPEEDUP * cores:
        return "short batches take all of them, in turn"
    if cost.speedup(rows=1) >= _MIN_SPEEDUP:
        return "a lone batch takes all of them, several at a time one each"
    return "every batch takes one"


@dataclass(frozen=True, slots=True)
class Batch(Generic[P]):
    """Jobs to run together now, on one core or on all. Holds its slots until finished."""

    queue: Queue[P]
    entries: list[Entry[P]]
    all_cores: bool

    @property
    def rows(self) -> int:
        """Rows of all entries."""
        return sum(entry.rows for entry in self.entries)

    @property
    def longest(self) -> int:
        """Positions of the longest row, to which all are padded."""
        return max(entry.positions for entry in self.entries)

    @property
    def positions(self) -> int:
        """Positions that hold input, of all rows."""
        return sum(entry.rows * entry.positions for entry in self.entries)


class Scheduler(Generic[P]):
    """Hands out batches while slots are free. Times are of any one clock, in seconds."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._free_slots = slots
        self._fair_queue: FairQueue[P] = FairQueue()
        self._held: list[Queue[P]] = []
        self._awaited_s: float | None = None
        self._graphs: set[Queue[P]] = set()
        self._order = count()
        self._lone_batches = 0
        # The latest caller who asked for something with nothing else waiting, and when.
        self._lone_caller: Hashable = None
        self._lone_s = -_BESIDE_S
        # What batches took, over what their jobs would have taken alone.
        self._efficiency = 1.0
        self.late: deque[Entry[P]] = deque()
        """Entries that cannot make their deadline: take them out and answer them."""

    def add(self, queue: Queue[P]) -> None:
        """Serve one more graph."""
        self._graphs.add(queue)

    def remove(self, queue: Queue[P]) -> None:
        """Serve a graph no more; nothing may wait for it."""
        self._graphs.remove(queue)

    def submit(self, entry: Entry[P], now_s: float, *, for_mates: bool = True) -> None:
        """Let a job wait, or put it in `late` if it would not be answered in time.

        It is held back for batch-mates where its queue asks for that, unless not `for_mates`.
        """
        entry.order = next(self._order)
        entry.arrived_s = now_s
        entry.due_s = min(now_s + _PATIENCE_S, entry.deadline_s)
        entry.alone_s = entry.queue.cost.seconds(entry.rows, entry.positions)
        entry.priority = self._fair_queue.priority_for(entry)
        if entry.priority is Priority.INTERACTIVE and not self._fair_queue.cost_s(
            entry.options.caller
        ):
            self._lone_caller, self._lone_s = entry.options.caller, now_s
        if entry.deadline_s < math.inf and entry.is_late(now_s + self.wait_s(entry.options.caller)):
            self.late.append(entry)
            return
        entry.waiting = True
        queue = entry.queue
        queue.waiting_rows += entry.rows
        queue.anticipation.came(entry.rows, now_s)
        # One that cannot afford to wait for batch-mates does not.
        if not for_mates or not queue.limits.delay_s or entry.is_late(now_s + queue.limits.delay_s):
            self._admit(entry)
            return
        if not queue.held:
            self._held.append(queue)
        queue.held.append(entry)

    def withdraw(self, entry: Entry[P]) -> None:
        """Forget a job whose caller left; nothing happens if it waits no longer."""
        if entry.waiting:
            self._leave(entry, charge_s=0.0)

    def wait_s(self, caller: Hashable) -> float:
        """Predict how long a new job of a caller waits before it starts.

        At most until all that waits has run; less for a caller with little
        waiting, whose turn comes before the others' work is done.
        """
        fair_s = self._fair_queue.cost_s(caller) * (self._fair_queue.callers() + 1)
        return min(self._fair_queue.total_cost_s, fair_s) * self._efficiency / self._slots

    def next_wake_s(self) -> float | None:
        """Return when a job that is held back must be let go, or None."""
        ends = [queue.held[0].arrived_s + queue.limits.delay_s for queue in self._held]
        if self._awaited_s is not None:
            ends.append(self._awaited_s)
        return min(ends, default=None)

    def next_batch(self, now_s: float) -> Batch[P] | None:
        """Take the next batch and its slots, or None if there is no slot or no job.

        None also while it is worth to wait for more, until `next_wake_s` at most.
        """
        self._awaited_s = None
        if not self._free_slots:
            return None
        self._release_held(now_s)
        while leader := self._fair_queue.leader():
            all_cores = self._takes_all_cores(leader, now_s)
            # How many times one core's speed the batch runs.
            queue = leader.queue
            speedup = queue.cost.speedup(self._share(queue, all_cores)) if all_cores else 1.0
            if not leader.is_late(now_s, speedup):
                break
            self._drop(leader)
        else:
            return None
        if self._is_worth_waiting(leader, all_cores, now_s):
            self._awaited_s = queue.anticipation.until_s
            return None
        share = self._share(queue, all_cores)
        max_s = _MAX_BULK_BESIDE_S if self._is_beside_others(leader, now_s) else MAX_BATCH_S
        entries, late = fill(leader, now_s, max(share, leader.rows), max_s, speedup)
        for entry in late:
            self._drop(entry)
        alone_s = sum(entry.alone_s for entry in entries)
        batch = Batch(queue, entries, all_cores)
        charge = queue.cost.seconds(batch.rows, batch.longest) / alone_s
        self._efficiency += _SMOOTHING * (charge - self._efficiency)
        for entry in entries:
            self._leave(entry, charge_s=entry.alone_s * charge)
        self._fair_queue.charged(leader.priority, alone_s * charge)
        self._occupy(batch, 1)
        return batch

    def finished(self, batch: Batch[P], seconds: float | None, now_s: float) -> None:
        """Give back the batch's slots and learn from the time it took; None if it was ended."""
        self._occupy(batch, -1)
        if seconds is None:
            return
        cost = batch.queue.cost
        learn = cost.observe_on_all if batch.all_cores else cost.observe
        learn(Sample(batch.rows, batch.longest, seconds))
        batch.queue.anticipation.answered(batch.rows, seconds, now_s)

    def _waiting_rows(self) -> int:
        return sum(queue.waiting_rows for queue in self._graphs)

    def _occupy(self, batch: Batch[P], sign: int) -> None:
        slots = sign * (self._slots if batch.all_cores else 1)
        self._free_slots -= slots
        batch.queue.slots += slots
        batch.queue.running_rows += sign * batch.rows

    def _share(self, queue: Queue[P], all_cores: bool, expected: int = 0) -> int:
        """Return how many rows a batch should have, if `expected` more come.

        One on all cores takes all. One-core batches of equal size on every core beat a
        large one beside crumbs.
        """
        rows = queue.waiting_rows + expected
        if not all_cores:
            rows = -(-(rows + queue.running_rows) // (queue.slots + self._free_slots))
        return min(rows, queue.limits.max_rows)

    def _is_worth_waiting(self, leader: Entry[P], all_cores: bool, now_s: float) -> bool:
        """Whether callers that are about to return would make the batch larger."""
        queue = leader.queue
        if queue.waiting_rows < self._waiting_rows() or leader.is_late(queue.anticipation.until_s):
            return False
        expected = queue.anticipation.expected(now_s)
        return expected > 0 and queue.waiting_rows < self._share(queue, all_cores, expected)

    def _is_beside_others(self, leader: Entry[P], now_s: float) -> bool:
        """Whether the leader is bulk, and somebody else asked for something of late."""
        return (
            leader.priority is Priority.BULK
            and now_s < self._lone_s + _BESIDE_S
            and self._lone_caller != leader.options.caller
        )

    def _takes_all_cores(self, leader: Entry[P], now_s: float) -> bool:
        """Whether the leader's batch takes all cores.

        Short jobs of several callers gain most from sharing, and those on one
        core each would end at different times and never meet. Long ones gain
        nothing from it, and cores are used best by one each.
        """
        if self._free_slots < self._slots or self._slots == 1:
            return False
        queue = leader.queue
        speedup = queue.cost.speedup(leader.rows)
        if leader.is_late(now_s, speedup=1.0):
            return speedup > 1.0
        if leader.alone_s / speedup > _LONG_ALL_CORES_S and len(self._graphs) > 1:
            return False
        if queue.waiting_rows == leader.rows and self._fair_queue.callers() == 1:
            # What was measured in a busy moment must not count for ever.
            self._lone_batches += 1
            return speedup >= _MIN_SPEEDUP or self._lone_batches % _TRY_EVERY == 0
        if queue.waiting_rows >= self._slots * queue.limits.max_rows:
            # Enough for a full batch on each: nobody need meet anybody.
            return False
        mean_s = self._fair_queue.total_cost_s / self._waiting_rows()
        return (
            queue.cost.speedup(queue.waiting_rows) >= _CROWD_SPEEDUP * self._slots
            and mean_s <= _CROWD_JOB_S
            and queue.cost.fixed_s >= _CROWD_FIXED_COST * mean_s
        )

    def _admit(self, entry: Entry[P]) -> None:
        entry.queue.add(entry)
        self._fair_queue.add(entry)
        entry.admitted = True

    def _release_held(self, now_s: float) -> None:
        """Admit what was held back long enough, and all that waits beside it."""
        for queue in list(self._held):
            ripe_s = queue.held[0].arrived_s + queue.limits.delay_s
            if now_s < ripe_s and queue.waiting_rows < queue.limits.max_rows:
                continue
            for entry in queue.held:
                self._admit(entry)
            queue.held.clear()
            self._held.remove(queue)

    def _drop(self, entry: Entry[P]) -> None:
        self._leave(entry, charge_s=0.0)
        self.late.append(entry)

    def _leave(self, entry: Entry[P], charge_s: float) -> None:
        entry.waiting = False
        queue = entry.queue
        queue.waiting_rows -= entry.rows
        if entry.admitted:
            queue.remove(entry)
            self._fair_queue.remove(entry, charge_s)
        else:
            queue.held.remove(entry)
            if not queue.held:
                self._held.remove(queue)
