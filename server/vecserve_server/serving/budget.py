"""A bound on the bytes of requests that wait or run."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from vecserve_server.errors import QueueFull
from vecserve_server.serving.places import Places


class ByteBudget:
    """Lets requests in while they fit `capacity` bytes, in the order they come.

    A request larger than that is let in alone.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._used = 0
        self._places = Places(capacity)

    def refuse_if_full(self, size: int, retry_after_s: float) -> None:
        """Raise QueueFull if `size` more bytes cannot be taken now."""
        if self._used and self._used + size > self._capacity:
            raise QueueFull(
                f"requests of {self._used} bytes wait for this model already, of at most "
                f"{self._capacity}: try again in {retry_after_s:.1f} s, or use a stream, which "
                "waits",
                retry_after_s=retry_after_s,
            )

    async def take(self, size: int) -> None:
        """Take `size` bytes; wait for them if need be."""
        await self._places.take(min(size, self._capacity))
        self._used += size

    def give_back(self, size: int) -> None:
        """Give back what was taken."""
        self._used -= size
        self._places.give_back(min(size, self._capacity))

    @asynccontextmanager
    async def hold(self, size: int) -> AsyncIterator[None]:
        """Take `size` bytes, and give them back at the end."""
        await self.take(size)
        try:
            yield
        finally:
            self.give_back(size)
