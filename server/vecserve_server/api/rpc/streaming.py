"""Stream reader: each message until the stream's end, a broken message, or shutdown."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc
from google.protobuf.message import Message

from vecserve_server.api.rpc.parsing import parse
from vecserve_server.errors import ServingError, ShuttingDown
from vecserve_server.reasons import Reason

Request = TypeVar("Request", bound=Message)


async def read_stream(
    context: grpc.aio.ServicerContext,
    message_type: type[Request],
    accept: Callable[[Request], Awaitable[None]],
    stopping: asyncio.Event,
) -> ServingError | None:
    """Hand each message to `accept`, one after the other; return why reading stopped.

    None is the client's end. A slow `accept` stops the reader, and HTTP/2 the sender.
    """

    async def read() -> ServingError | None:
        while (data := await context.read()) is not grpc.aio.EOF:
            try:
                message = await parse(message_type, data, context)
            except ServingError as error:
                return error
            await accept(message)
        return None

    reading = asyncio.create_task(read())
    stop = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({reading, stop}, return_when=asyncio.FIRST_COMPLETED)
        if reading.done():
            return reading.result()
        return ShuttingDown(
            Reason.SHUTTING_DOWN,
            "the server is shutting down; send items without an answer elsewhere",
        )
    finally:
        reading.cancel()
        stop.cancel()
