"""Parsing of request messages, bounded: what holds too much is refused before it is built."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from vecserve_server.api.rpc.wire import TooMany, check_parts
from vecserve_server.errors import InvalidItem
from vecserve_server.reasons import Reason
from vecserve_server.serving.semaphore import FairSemaphore

Request = TypeVar("Request", bound=Message)
T = TypeVar("T")

# Items of a message, inputs with all that is in them, elements of BYTES: 64 Ki items have 3
# parts each. So many parts take the parser 20 ms and 60 MB, and the count of them 0.2 s.
MAX_PARTS = 256 * 1024
# Numbers that lie packed in fields, not those in bytes: so many take 0.25 s to become an array.
MAX_NUMBERS = 4 * 1024 * 1024
# As many are counted on the event loop, in 0.5 ms.
_FEW_PARTS = 1024
# Not worth a count: at two bytes a part, they are parsed in 0.4 ms.
_SMALL_BYTES = 16 * 1024

# One thread, so that of many large messages only one at a time competes with the event loop,
# and the peers who send them take turns.
_THREAD = ThreadPoolExecutor(1, thread_name_prefix="message")
_TURN = FairSemaphore(1)


async def in_thread(work: Callable[[], T], peer: str) -> T:
    """Return what `work` on a peer's large message returns, while the event loop goes on."""
    await _TURN.acquire(peer, peer)
    try:
        return await asyncio.get_running_loop().run_in_executor(_THREAD, work)
    finally:
        _TURN.release()


async def parse(
    message_type: type[Request], data: bytes, context: grpc.aio.ServicerContext
) -> Request:
    """Return the message that `data`, sent in that RPC, holds. Raises InvalidItem.

    Not done by gRPC, which answers what it cannot parse with INTERNAL: that blames us.
    """
    if len(data) <= _SMALL_BYTES:
        return _parse(message_type, data)
    try:
        check_parts(message_type, data, max_parts=_FEW_PARTS, max_numbers=_FEW_PARTS)
    except TooMany:
        return await in_thread(lambda: _parse_large(message_type, data), context.peer())
    return _parse(message_type, data)


def _parse_large(message_type: type[Request], data: bytes) -> Request:
    try:
        check_parts(message_type, data, max_parts=MAX_PARTS, max_numbers=MAX_NUMBERS)
    except TooMany as error:
        raise InvalidItem(
            Reason.MESSAGE_TOO_COMPLEX, f"the message has more than {error}"
        ) from error
    return _parse(message_type, data)


def _parse(message_type: type[Request], data: bytes) -> Request:
    try:
        return message_type.FromString(data)
    except DecodeError as error:
        name = message_type.DESCRIPTOR.full_name
        raise InvalidItem(
            Reason.MALFORMED_MESSAGE,
            f"the message is no {name}, or a text in it is not UTF-8: {error}",
        ) from error
