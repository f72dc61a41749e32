"""One bidirectional stream of a load: messages sent, outcomes read, times recorded."""

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
    """A message in flight: intended and actual send time, unanswered items, error codes."""

    message: Message
    intended_s: float
    sent_s: float
    left: int
    codes: list[str] = field(default_factory=list)


class Stream:
    """A stream with at most `in_flight` unanswered messages, taken from a shared `pool`."""

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
        self._slots = asyncio.Semaphore(in_flight)
        self._samples = samples
        self._now = now
        self._in_flight: dict[int, _Sent] = {}
        self._reader = asyncio.create_task(self._read())
        self.broken = ""
        """The code that ended the stream, if one did."""

    async def send(self, intended_s: float | None) -> None:
        """Send one message when a slot is free; with None, that is its intended time."""
        await self._slots.acquire()
        # Not one in flight on another stream: item ids differ between messages.
        message = self._pool.popleft()
        sent_s = self._now()
        sent = _Sent(message, sent_s if intended_s is None else intended_s, sent_s, message.items)
        self._in_flight[message.number] = sent
        if self.broken:
            self._fail(sent, self.broken)
            return
        try:
            await self._call.write(message.data)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            # The reader learns the code, and fails what is in flight.
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
                for outcome in self._wire.read_stream(answer):
                    sent = self._in_flight[outcome.number]
                    sent.left -= outcome.items
                    if outcome.code is not None:
                        sent.codes += [outcome.code] * outcome.items
                    if sent.left <= 0:
                        self._record(sent, done_s)
        except grpc.aio.AioRpcError as error:
            self._break(error.code().name)

    def _break(self, code: str) -> None:
        self.broken = self.broken or code
        for sent in list(self._in_flight.values()):
            self._fail(sent, code)

    def _fail(self, sent: _Sent, code: str) -> None:
        sent.codes += [code] * sent.left
        self._record(sent, self._now())

    def _record(self, sent: _Sent, done_s: float) -> None:
        message = sent.message
        del self._in_flight[message.number]
        self._pool.append(message)
        self._slots.release()
        self._samples.add(sent.intended_s, sent.sent_s, done_s, message.items, sent.codes)
