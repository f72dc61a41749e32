"""One stream of a load: messages out, verdicts in, each message's time."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import grpc

from vecserve.bench.samples import Samples
from vecserve.bench.wire import Message, Wire


@dataclass(slots=True)
class _Sent:
    """A message on its way: when it was to go, when it went, what of it is unanswered."""

    message: Message
    intended_s: float
    sent_s: float
    left: int
    codes: list[str] = field(default_factory=list)


class Stream:
    """At most `in_flight` messages out of the shared `pool` are unanswered at a time."""

    def __init__(
        self,
        start: Any,
        wire: Wire,
        pool: deque[Message],
        in_flight: int,
        samples: Samples,
        now: Callable[[], float],
    ) -> None:
        self._call = start()
        self._wire = wire
        self._pool = pool
        self._places = asyncio.Semaphore(in_flight)
        self._samples = samples
        self._now = now
        self._out: dict[int, _Sent] = {}
        self._reader = asyncio.create_task(self._read())
        self.broken = ""
        """The code that ended the stream, if one did."""

    async def send(self, intended_s: float | None) -> None:
        """Send one message when there is a place; None means it is meant to go just then."""
        await self._places.acquire()
        # One that is not on its way on any stream: item ids differ between messages.
        message = self._pool.popleft()
        sent_s = self._now()
        sent = _Sent(message, sent_s if intended_s is None else intended_s, sent_s, message.items)
        self._out[message.number] = sent
        if self.broken:
            self._fail(sent, self.broken)
            return
        try:
            await self._call.write(message.data)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            # The reader learns why, and fails what is out.
            await self._reader

    async def finish(self, timeout_s: float) -> None:
        """Half-close, and wait for the answers; those that do not come are NO_ANSWER."""
        if not self.broken:
            await self._call.done_writing()
        _, pending = await asyncio.wait({self._reader}, timeout=timeout_s)
        if pending:
            self._call.cancel()
            self._break("NO_ANSWER")
        await asyncio.gather(self._reader, return_exceptions=True)
        self._break("NO_ANSWER")

    async def _read(self) -> None:
        try:
            async for answer in self._call:
                done_s = self._now()
                for verdict in self._wire.read_stream(answer):
                    sent = self._out[verdict.number]
                    sent.left -= verdict.items
                    if verdict.code is not None:
                        sent.codes += [verdict.code] * verdict.items
                    if sent.left <= 0:
                        self._note(sent, done_s)
        except grpc.aio.AioRpcError as error:
            self._break(error.code().name)

    def _break(self, code: str) -> None:
        self.broken = self.broken or code
        for sent in list(self._out.values()):
            self._fail(sent, code)

    def _fail(self, sent: _Sent, code: str) -> None:
        sent.codes += [code] * sent.left
        self._note(sent, self._now())

    def _note(self, sent: _Sent, done_s: float) -> None:
        message = sent.message
        del self._out[message.number]
        self._pool.append(message)
        self._places.release()
        self._samples.add(sent.intended_s, sent.sent_s, done_s, message.items, sent.codes)
