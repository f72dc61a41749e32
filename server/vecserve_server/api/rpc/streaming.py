"""Reading a stream until its end, a broken message, or shutdown."""

import asyncio
from collections.abc import Coroutine

from vecserve_server.errors import ServingError, ShuttingDown


async def read_until_stopped(
    read: Coroutine[None, None, ServingError | None], stopping: asyncio.Event
) -> ServingError | None:
    """Run `read` until it ends or `stopping` is set; return why it stopped, if not by the end."""
    reading = asyncio.create_task(read)
    stop = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({reading, stop}, return_when=asyncio.FIRST_COMPLETED)
        if reading.done():
            return reading.result()
        return ShuttingDown(
            "SHUTTING_DOWN",
            "the server is shutting down; send items without an answer elsewhere",
        )
    finally:
        reading.cancel()
        stop.cancel()
