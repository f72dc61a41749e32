"""Fair queueing between peers, and between callers of a peer, within each priority, by cost.

Start-time fair queueing (Goyal, Vin and Cheng, 1996), as in an operating
system's scheduler: every caller has a virtual time that grows by the cost of
what ran for it, and the caller furthest behind goes next. One who comes, or
comes back, starts at the present virtual time: idling earns no credit. So over
any time two callers that can fill batches of their own get the same compute, to
within one batch of each; who cannot leads a batch at each turn, and others,
charged for it, fill it up. Inside a caller the earliest due goes first.

So it is between peers, and inside a peer between its callers: however many streams a
connection opens, it gets what another one with a single stream gets.
"""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from itertools import count
from typing import Generic

from vecserve_server.scheduling.options import JobOptions, Priority
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
    """Whose entries take turns with those of others: a caller, or a peer with its `callers`."""

    virtual_s: float
    callers: "_Turns[P] | None" = None
    heap: list[tuple[float, int, Entry[P]]] = field(default_factory=list)
    waiting: int = 0
    # Of the newest item in the heap of turns: only that one counts there.
    version: int = 0

    def head(self) -> Entry[P]:
        """Return the entry that is next; there must be one."""
        if self.callers is not None:
            leader = self.callers.leader()
            assert leader is not None
            return leader
        while not self.heap[0][2].waiting:
            heappop(self.heap)
        return self.heap[0][2]


@dataclass(slots=True, eq=False)
class _Turns(Generic[P]):
    """Flows, the one furthest behind first."""

    # Virtual time of the flow whose turn was last: where newcomers start.
    present_s: float = 0.0
    flows: dict[Hashable, _Flow[P]] = field(default_factory=dict)
    heap: list[tuple[float, float, int, int, Hashable]] = field(default_factory=list)
    # Flows whose place in the heap is no longer right.
    moved: dict[Hashable, _Flow[P]] = field(default_factory=dict)
    versions: Iterator[int] = field(default_factory=partial(count, 1))

    def push(self, name: Hashable, flow: _Flow[P]) -> None:
        """(Re)place a flow in the order of turns."""
        flow.version = next(self.versions)
        head = flow.head()
        heappush(self.heap, (flow.virtual_s, head.due_s, head.order, flow.version, name))

    def leader(self) -> Entry[P] | None:
        """Return the entry whose turn it is."""
        for name, flow in self.moved.items():
            self.push(name, flow)
        self.moved.clear()
        while self.heap:
            _, _, _, version, name = self.heap[0]
            known = self.flows.get(name)
            if known is not None and known.version == version:
                return known.head()
            heappop(self.heap)
        return None

    def remove_one(self, name: Hashable, charge_s: float) -> None:
        """Let an entry of a flow go, and charge the flow for what it costs."""
        flow = self.flows[name]
        flow.waiting -= 1
        if charge_s:
            self.present_s = max(self.present_s, flow.virtual_s)
            flow.virtual_s += charge_s
        if flow.waiting:
            self.moved[name] = flow
        else:
            del self.flows[name]
            self.moved.pop(name, None)


@dataclass(slots=True, eq=False)
class _PriorityState(Generic[P]):
    """One priority: the turns of its peers."""

    virtual_s: float = 0.0
    last_batch_s: float = _FIRST_BATCH_S
    peers: _Turns[P] = field(default_factory=lambda: _Turns())


def _names(options: JobOptions) -> tuple[Hashable, Hashable]:
    """Return the peer and the caller; a caller without a peer is its own."""
    return (options.caller if options.peer is None else options.peer, options.caller)


class FairQueue(Generic[P]):
    """Keeps every waiting entry in order of turns."""

    def __init__(self) -> None:
        self._priorities: dict[Priority, _PriorityState[P]] = {
            priority: _PriorityState() for priority in Priority
        }
        self._waiting_rows: dict[Hashable, int] = {}
        self._cost_s: dict[Hashable, float] = {}
        self._callers = 0
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
        if not state.peers.flows:
            # Where nothing waits at all, the present is where the last work left it.
            busy = [other for other in self._priorities.values() if other.peers.flows]
            present = busy or list(self._priorities.values())
            state.virtual_s = max(state.virtual_s, *(other.virtual_s for other in present))
        peer_name, name = _names(entry.options)
        peer = state.peers.flows.get(peer_name)
        if peer is None:
            peer = state.peers.flows[peer_name] = _Flow(state.peers.present_s, _Turns())
        callers = peer.callers
        assert callers is not None
        first_of_peer = peer.head() if peer.waiting else None
        flow = callers.flows.get(name)
        if flow is None:
            flow = callers.flows[name] = _Flow(callers.present_s)
            self._callers += 1
        first = flow.head() if flow.waiting else None
        peer.waiting += 1
        flow.waiting += 1
        heappush(flow.heap, (entry.due_s, entry.order, entry))
        if flow.head() is not first:
            callers.push(name, flow)
        if peer.head() is not first_of_peer:
            state.peers.push(peer_name, peer)
        self._count(entry, 1)

    def remove(self, entry: Entry[P], charge_s: float) -> None:
        """Take an entry that no longer waits out, and charge its caller for what it costs."""
        state = self._priorities[entry.priority]
        peer_name, name = _names(entry.options)
        callers = state.peers.flows[peer_name].callers
        assert callers is not None
        callers.remove_one(name, charge_s)
        if name not in callers.flows:
            self._callers -= 1
        state.peers.remove_one(peer_name, charge_s)
        state.virtual_s += charge_s / _WEIGHTS[entry.priority]
        self._count(entry, -1)

    def leader(self) -> Entry[P] | None:
        """Return the entry whose turn it is, or None if nothing waits."""
        busy = [priority for priority in Priority if self._priorities[priority].peers.flows]
        if not busy:
            return None
        # By when its next batch would end, not start: else a priority that is a
        # hair behind would put a long batch before a short one.
        return self._priorities[min(busy, key=self._next_end_s)].peers.leader()

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
        return self._callers

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
