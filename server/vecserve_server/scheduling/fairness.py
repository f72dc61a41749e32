"""Fair queueing between callers within each priority, and between priorities, by cost.

Start-time fair queueing (Goyal, Vin and Cheng, 1996), as in an operating
system's scheduler: every caller has a virtual time that grows by the cost of
what ran for it, and the caller furthest behind goes next. One who comes, or
comes back, starts at the present virtual time: idling earns no credit. So over
any time two callers that can fill batches of their own get the same compute, to
within one batch of each; who cannot leads a batch at each turn, and others,
charged for it, fill it up. Inside a caller the earliest due goes first.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Generic

from vecserve_server.scheduling.options import Priority
from vecserve_server.scheduling.queue import Entry, P

# The interactive priority's share of the machine, to the bulk priority's one, while
# both have work.
_WEIGHTS = {Priority.INTERACTIVE: 8.0, Priority.BULK: 1.0}
# A priority's batches before it has had any are taken to last this long.
_FIRST_BATCH_S = 0.05
# A caller with this many rows waiting already is pouring in work.
BULK_ROWS = 16


@dataclass(slots=True, eq=False)
class _Flow(Generic[P]):
    """One caller's entries in one priority."""

    virtual_s: float
    heap: list[tuple[float, int, Entry[P]]] = field(default_factory=list)
    waiting: int = 0
    # Grows with every push to the priority's heap; only the newest counts there.
    version: int = 0

    def head(self) -> Entry[P]:
        """Return the entry that is due first; there must be one."""
        while not self.heap[0][2].waiting:
            heappop(self.heap)
        return self.heap[0][2]


@dataclass(slots=True, eq=False)
class _PriorityState(Generic[P]):
    """One priority: its callers, the one furthest behind first."""

    virtual_s: float = 0.0
    last_batch_s: float = _FIRST_BATCH_S
    # Virtual time of the caller whose turn was last: where newcomers start.
    present_s: float = 0.0
    flows: dict[Hashable, _Flow[P]] = field(default_factory=dict)
    heap: list[tuple[float, float, int, int, Hashable]] = field(default_factory=list)
    # Callers whose place in the heap is no longer right.
    moved: dict[Hashable, _Flow[P]] = field(default_factory=dict)

    def push(self, caller: Hashable, flow: _Flow[P]) -> None:
        """(Re)place a caller in the order of turns."""
        flow.version += 1
        head = flow.head()
        item = (flow.virtual_s, head.due_s, head.order, flow.version, caller)
        heappush(self.heap, item)

    def leader(self) -> Entry[P] | None:
        """Return the entry whose turn it is in this priority."""
        for moved, place in self.moved.items():
            self.push(moved, place)
        self.moved.clear()
        while self.heap:
            _, _, _, version, caller = self.heap[0]
            flow = self.flows.get(caller)
            if flow is not None and flow.version == version:
                return flow.head()
            heappop(self.heap)
        return None


class FairQueue(Generic[P]):
    """Keeps every waiting entry in order of turns."""

    def __init__(self) -> None:
        self._priorities: dict[Priority, _PriorityState[P]] = {
            priority: _PriorityState() for priority in Priority
        }
        self._waiting_rows: dict[Hashable, int] = {}
        self._cost_s: dict[Hashable, float] = {}
        self.total_cost_s = 0.0
        """What everything that waits would take, each job alone on one core."""

    def priority_for(self, entry: Entry[P]) -> Priority:
        """Return the priority asked for, or the one that the caller's waiting work calls for."""
        if entry.options.priority is not None:
            return entry.options.priority
        rows = self._waiting_rows.get(entry.options.caller, 0) + entry.rows
        return Priority.BULK if rows > BULK_ROWS else Priority.INTERACTIVE

    def add(self, entry: Entry[P]) -> None:
        """Let an entry, whose priority is set, take part."""
        state = self._priorities[entry.priority]
        if not state.flows:
            # Where nothing waits at all, the present is where the last work left it.
            busy = [other for other in self._priorities.values() if other.flows]
            present = busy or list(self._priorities.values())
            state.virtual_s = max(state.virtual_s, *(other.virtual_s for other in present))
        flow = state.flows.get(entry.options.caller)
        if flow is None:
            flow = state.flows[entry.options.caller] = _Flow(state.present_s)
        flow.waiting += 1
        before = flow.head() if flow.waiting > 1 else None
        heappush(flow.heap, (entry.due_s, entry.order, entry))
        if flow.head() is not before:
            state.push(entry.options.caller, flow)
        self._count(entry, 1)

    def remove(self, entry: Entry[P], charge_s: float) -> None:
        """Take an entry that no longer waits out, and charge its caller for what it costs."""
        state = self._priorities[entry.priority]
        flow = state.flows[entry.options.caller]
        flow.waiting -= 1
        if charge_s:
            state.present_s = max(state.present_s, flow.virtual_s)
            state.virtual_s += charge_s / _WEIGHTS[entry.priority]
            flow.virtual_s += charge_s
        if flow.waiting:
            state.moved[entry.options.caller] = flow
        else:
            del state.flows[entry.options.caller]
            state.moved.pop(entry.options.caller, None)
        self._count(entry, -1)

    def leader(self) -> Entry[P] | None:
        """Return the entry whose turn it is, or None if nothing waits."""
        busy = [priority for priority in Priority if self._priorities[priority].flows]
        if not busy:
            return None
        # By when its next batch would end, not start: else a priority that is a
        # hair behind would put a long batch before a short one.
        return self._priorities[min(busy, key=self._next_end_s)].leader()

    def charged(self, priority: Priority, seconds: float) -> None:
        """Take note of what a batch that this priority's caller led was charged."""
        self._priorities[priority].last_batch_s = seconds

    def _next_end_s(self, priority: Priority) -> float:
        state = self._priorities[priority]
        return state.virtual_s + state.last_batch_s / _WEIGHTS[priority]

    def cost_s(self, caller: Hashable) -> float:
        """Return what all that waits of a caller would take, each job alone on one core."""
        return self._cost_s.get(caller, 0.0)

    def callers(self) -> int:
        """Return how many callers have something waiting, counted by priority."""
        return sum(len(state.flows) for state in self._priorities.values())

    def _count(self, entry: Entry[P], sign: int) -> None:
        caller = entry.options.caller
        left = self._waiting_rows.get(caller, 0) + sign * entry.rows
        if left:
            self._waiting_rows[caller] = left
            self._cost_s[caller] = self._cost_s.get(caller, 0.0) + sign * entry.alone_s
        else:
            del self._waiting_rows[caller]
            del self._cost_s[caller]
        # Sums of floats drift; they start anew when nothing waits.
        self.total_cost_s += sign * entry.alone_s
        if not self._waiting_rows:
            self.total_cost_s = 0.0
