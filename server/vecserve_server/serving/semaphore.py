"""Weighted semaphore: units taken several at a time, first come, first served."""

import asyncio
from collections import deque


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
