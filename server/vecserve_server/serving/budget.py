"""Byte budget: a bound on the bytes of requests that wait or run."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from vecserve_server.errors import QueueFull
from vecserve_server.serving.semaphore import WeightedSemaphore


class ByteBudget:
    """Lets requests in while they fit `capacity` bytes, in the order they come.

    A request larger than that is let in alone.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._used = 0
        self._semaphore = WeightedSemaphore(capacity)

    def refuse_if_full(self, size: int, retry_after_s: float) -> None:
        """Raise QueueFull if `size` more bytes cannot be taken now."""
        if self._used and self._used + size > self._capacity:
            raise QueueFull(
                f"requests of {self._used} bytes wait for this model already, of at most "
                f"{self._capacity}: try again in {retry_after_s:.1f} s, or use a stream, which "
                "waits",
                retry_after_s=retry_after_s,
            )

    async def acquire(self, size: int) -> None:
        """Take `size` bytes; wait for them if need be."""
        await self._semaphore.acquire(size)
        self._used += size

    def release(self, size: int) -> None:
        """Give back what was taken."""
        self._used -= size
        self._semaphore.release(size)

    @asynccontextmanager
    async def hold(self, size: int) -> AsyncIterator[None]:
        """Take `size` bytes, and give them back at the end."""
        await self.acquire(size)
        try:
            yield
        finally:
            self.release(size)
