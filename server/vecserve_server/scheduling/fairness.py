"""Whose turn it is: callers share each lane, and the lanes share the machine, by cost.

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

from vecserve_server.scheduling.entry import Entry, Lane, P

# The interactive lane's share of the machine, to the bulk lane's one, while
# both have work.
_WEIGHTS = {Lane.INTERACTIVE: 8.0, Lane.BULK: 1.0}
# A lane's batches before it has had any are taken to last this long.
_FIRST_BATCH_S = 0.05
# A caller with this many rows waiting already is pouring in work.
BULK_ROWS = 16


@dataclass(slots=True, eq=False)
class _Flow(Generic[P]):
    """One caller's entries in one lane."""

    virtual_s: float
    heap: list[tuple[float, int, Entry[P]]] = field(default_factory=list)
    waiting: int = 0
    # Grows with every push to the lane's heap; only the newest counts there.
    version: int = 0

    def head(self) -> Entry[P]:
        """Return the entry that is due first; there must be one."""
        while not self.heap[0][2].waiting:
            heappop(self.heap)
        return self.heap[0][2]


@dataclass(slots=True, eq=False)
class _LaneState(Generic[P]):
    """One lane: its callers, the one furthest behind first."""

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
        """Return the entry whose turn it is in this lane."""
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


class Turns(Generic[P]):
    """Keeps every waiting entry in order of turns."""

    def __init__(self) -> None:
        self._lanes: dict[Lane, _LaneState[P]] = {lane: _LaneState() for lane in Lane}
        self._waiting_rows: dict[Hashable, int] = {}
        self._cost_s: dict[Hashable, float] = {}
        self.total_cost_s = 0.0
        """What everything that waits would take, each job alone on one core."""

    def lane_for(self, entry: Entry[P]) -> Lane:
        """Return the lane asked for, or the one that the caller's waiting work calls for."""
        if entry.terms.lane is not None:
            return entry.terms.lane
        rows = self._waiting_rows.get(entry.terms.caller, 0) + entry.rows
        return Lane.BULK if rows > BULK_ROWS else Lane.INTERACTIVE

    def add(self, entry: Entry[P]) -> None:
        """Let an entry, whose lane is set, take part."""
        lane = self._lanes[entry.lane]
        if not lane.flows:
            others = [other.virtual_s for other in self._lanes.values() if other.flows]
            lane.virtual_s = max([lane.virtual_s, *others])
        flow = lane.flows.get(entry.terms.caller)
        if flow is None:
            flow = lane.flows[entry.terms.caller] = _Flow(lane.present_s)
        flow.waiting += 1
        before = flow.head() if flow.waiting > 1 else None
        heappush(flow.heap, (entry.due_s, entry.order, entry))
        if flow.head() is not before:
            lane.push(entry.terms.caller, flow)
        self._count(entry, 1)

    def remove(self, entry: Entry[P], charge_s: float) -> None:
        """Take an entry that no longer waits out, and charge its caller for what it costs."""
        lane = self._lanes[entry.lane]
        flow = lane.flows[entry.terms.caller]
        flow.waiting -= 1
        if charge_s:
            lane.present_s = max(lane.present_s, flow.virtual_s)
            lane.virtual_s += charge_s / _WEIGHTS[entry.lane]
            flow.virtual_s += charge_s
        if flow.waiting:
            lane.moved[entry.terms.caller] = flow
        else:
            del lane.flows[entry.terms.caller]
            lane.moved.pop(entry.terms.caller, None)
        self._count(entry, -1)

    def leader(self) -> Entry[P] | None:
        """Return the entry whose turn it is, or None if nothing waits."""
        lanes = [lane for lane in Lane if self._lanes[lane].flows]
        if not lanes:
            return None
        # By when its next batch would end, not start: else a lane that is a
        # hair behind would put a long batch before a short one.
        return self._lanes[min(lanes, key=self._next_end_s)].leader()

    def charged(self, lane: Lane, seconds: float) -> None:
        """Take note of what a batch that this lane's caller led was charged."""
        self._lanes[lane].last_batch_s = seconds

    def _next_end_s(self, lane: Lane) -> float:
        state = self._lanes[lane]
        return state.virtual_s + state.last_batch_s / _WEIGHTS[lane]

    def cost_s(self, caller: Hashable) -> float:
        """Return what all that waits of a caller would take, each job alone on one core."""
        return self._cost_s.get(caller, 0.0)

    def callers(self) -> int:
        """Return how many callers have something waiting, counted by lane."""
        return sum(len(lane.flows) for lane in self._lanes.values())

    def _count(self, entry: Entry[P], sign: int) -> None:
        caller = entry.terms.caller
        left = self._waiting_rows.get(caller, 0) + sign * entry.rows
        if left:
            self._waiting_rows[caller] = left
            self._cost_s[caller] = self._cost_s.get(caller, 0.0) + sign * entry.alone_s
        else:
            del self._waiting_rows[caller]
            del self._cost_s[caller]
        # Sums of floats drift; an empty house is where they start anew.
        self.total_cost_s += sign * entry.alone_s
        if not self._waiting_rows:
            self.total_cost_s = 0.0
