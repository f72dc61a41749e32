"""Semaphores: weighted, first come, first served; and fair, one caller after the other."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Hashable


class WeightedSemaphore:
    """Hands out up to `capacity` places; who needs more takes all. Lives on one event loop.

    Unlike a semaphore it gives a caller all the places it asks for at once:
    two callers that each held half of what they need would wait for ever.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._free = capacity
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def acquire(self, count: int) -> None:
        """Take places, waiting until all are free and everybody before has theirs."""
        count = min(count, self._capacity)
        if not self._waiting and self._free >= count:
            self._free -= count
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((count, granted))
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self.release(count)
            else:
                self._grant()
            raise

    def release(self, count: int) -> None:
        """Give back as many as were asked for, to those who wait first."""
        self._free += min(count, self._capacity)
        self._grant()

    def _grant(self) -> None:
        while self._waiting:
            count, granted = self._waiting[0]
            if not granted.done():
                if self._free < count:
                    return
                self._free -= count
                granted.set_result(None)
            self._waiting.popleft()


class FairSemaphore:
    """Hands out `capacity` places: to peers in turn, and of each to its callers in turn.

    Lives on one event loop. What is given back is free in the loop's next round only: work
    that is done on the loop under a place yields to everybody else, `capacity` at a time.
    """

    def __init__(self, capacity: int) -> None:
        self._free = capacity
        # By peer, then by caller; the next to be served is the first everywhere.
        self._waiting: OrderedDict[
            Hashable, OrderedDict[Hashable, OrderedDict[asyncio.Future[None], None]]
        ] = OrderedDict()

    async def acquire(self, peer: Hashable, caller: Hashable) -> None:
        """Take a place, waiting for it if need be."""
        if self._free and not self._waiting:
            self._free -= 1
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        callers = self._waiting.setdefault(peer, OrderedDict())
        callers.setdefault(caller, OrderedDict())[granted] = None
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self.release()
            else:
                self._take_out(peer, caller, granted)
            raise

    def release(self) -> None:
        """Give a place back."""
        asyncio.get_running_loop().call_soon(self._grant)

    def _grant(self) -> None:
        self._free += 1
        while self._free and self._waiting:
            peer, callers = next(iter(self._waiting.items()))
            caller, waiting = next(iter(callers.items()))
            granted = next(iter(waiting))
            self._take_out(peer, caller, granted)
            # Whose turn it was goes to the end.
            if caller in callers:
                callers.move_to_end(caller)
            if peer in self._waiting:
                self._waiting.move_to_end(peer)
            if not granted.done():
                self._free -= 1
                granted.set_result(None)

    def _take_out(self, peer: Hashable, caller: Hashable, granted: asyncio.Future[None]) -> None:
        callers = self._waiting.get(peer, OrderedDict())
        waiting = callers.get(caller, OrderedDict())
        waiting.pop(granted, None)
        if not waiting:
            callers.pop(caller, None)
        if not callers:
            self._waiting.pop(peer, None)
