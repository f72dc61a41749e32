"""Calls of all clients: the open ones, of which there may be so many, and how each ended."""

import asyncio
from typing import Any

import grpc

from vecserve_server.api.rpc.drain import Method
from vecserve_server.api.rpc.status import abort, aborted_with, code_name
from vecserve_server.errors import TooManyCalls
from vecserve_server.telemetry.metrics import Metrics

_RETRY_AFTER_S = 1.0
# What calls of methods that do not exist are counted under: there is no end to their names.
_UNKNOWN_METHOD = "unknown"


class Calls:
    """Counts calls in and out. Lives on one event loop."""

    def __init__(self, metrics: Metrics, max_open: int) -> None:
        self._metrics = metrics
        self._max_open = max_open
        self._open = 0

    def guard(self, name: str, method: Method) -> Method:
        """Return `method`, called `name`, counted, and refused while too many are open."""

        async def handle(request: Any, context: grpc.aio.ServicerContext) -> Any:
            self._open += 1
            aborted_with.set(None)
            code, reason = "OK", ""
            try:
                if self._open > self._max_open:
                    await self._refuse(context)
                return await method(request, context)
            except asyncio.CancelledError:
                left_s = context.time_remaining()
                late = left_s is not None and left_s <= 0
                code = "DEADLINE_EXCEEDED" if late else "CANCELLED"
                raise
            except BaseException:
                error = aborted_with.get()
                code, reason = (code_name(error), error.reason) if error else ("UNKNOWN", "")
                raise
            finally:
                self._open -= 1
                self._metrics.call_ended(name, code, reason)

        return handle

    def unknown(self) -> None:
        """Count a call of a method that does not exist."""
        self._metrics.call_ended(_UNKNOWN_METHOD, "UNIMPLEMENTED", "")

    async def _refuse(self, context: grpc.aio.ServicerContext) -> None:
        error = TooManyCalls(
            f"{self._max_open} calls are open, as many as there may be: try again in "
            f"{_RETRY_AFTER_S:.0f} s, or send many items on one stream",
            retry_after_s=_RETRY_AFTER_S,
        )
        await abort(context, error)
