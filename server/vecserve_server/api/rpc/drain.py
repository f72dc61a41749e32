"""Drain of a server: the calls in flight, and how new ones are refused at the end.

gRPC's own stop cancels the calls that arrive while the connections are told of
it, and their callers see a bare CANCELLED. So the drain closes first: it tells
those who call why they are refused, until nobody does any more.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import grpc

from vecserve_server.api.rpc.status import abort
from vecserve_server.errors import ShuttingDown
from vecserve_server.reasons import Reason

T = TypeVar("T")

Method = Callable[[Any, grpc.aio.ServicerContext], Awaitable[Any]]

# A caller that never pauses calls again within this time; one that pauses longer is unlikely
# to call in the millisecond in which gRPC stops.
_QUIET_S = 0.1
# Callers that balance over several servers should learn soon that this one goes, whatever is
# still being computed.
_AT_MOST_S = 1.0
_LOOK_S = 0.01


class Drain:
    """Counts the calls inside. Lives on one event loop; `closed` is for streams to end by."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()
        self._inside = 0
        self._moved_s = -math.inf

    async def until_closed(self, requests: AsyncIterator[T]) -> AsyncIterator[T]:
        """Yield what a client sends, as if it sent nothing more once the drain closes."""
        closing = asyncio.create_task(self.closed.wait())
        try:
            while True:
                following = asyncio.ensure_future(anext(requests))
                try:
                    await asyncio.wait({following, closing}, return_when=asyncio.FIRST_COMPLETED)
                    if not following.done():
                        return
                    yield following.result()
                except StopAsyncIteration:
                    return
                finally:
                    following.cancel()
        finally:
            closing.cancel()

    def guard(self, method: Method) -> Method:
        """Return `method`, a handler of one call, behind the drain."""

        async def handle(request: Any, context: grpc.aio.ServicerContext) -> Any:
            self._move(1)
            try:
                if self.closed.is_set():
                    why = "the server is shutting down: call another"
                    await abort(context, ShuttingDown(Reason.SHUTTING_DOWN, why))
                return await method(request, context)
            finally:
                self._move(-1)

        return handle

    async def close(self, at_most_s: float) -> None:
        """Refuse calls from now on; return once all have left and none comes, or soon after."""
        self.closed.set()
        end_s = time.monotonic() + min(at_most_s, _AT_MOST_S)
        while True:
            now_s = time.monotonic()
            if now_s >= end_s or (not self._inside and now_s >= self._moved_s + _QUIET_S):
                return
            await asyncio.sleep(_LOOK_S)

    def _move(self, step: int) -> None:
        self._inside += step
        self._moved_s = time.monotonic()
