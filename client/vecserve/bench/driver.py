"""Load generator for one server: closed or open loop, unary calls or streams.

grpc.aio with requests encoded beforehand and bytes both ways: measured against
an echo on 2 cores it costs the client 83-98 us of CPU a unary call at 8 to 32
in flight (threads: 115-143), and is as quick as threads with one (0.4 ms).
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

import grpc

from vecserve.bench.load import Load, RoundSpec
from vecserve.bench.samples import Samples
from vecserve.bench.streams import Stream
from vecserve.bench.targets import BenchError
from vecserve.bench.wire import Message, Wire

DRAIN_S = 60.0
"""Seconds to wait for answers after a round's end; then they count as NO_ANSWER."""

_BACK_OFF_S = 0.05
"""Seconds that a refused caller of a closed loop waits before it sends again."""

_FIRST_ANSWER_S = 60.0

_LONGEST_LEAD_S = 60.0
"""Seconds after which a closed loop is measured, whatever is unanswered."""


class Driver:
    """One client of one server, for one load. An async context manager: the connection."""

    def __init__(self, wire: Wire, address: str, load: Load) -> None:
        """Encode the load's messages. Raises BenchError."""
        self._wire = wire
        self._address = address
        self._load = load
        self._messages = wire.encode(load)

    async def __aenter__(self) -> "Driver":
        self._channel = grpc.aio.insecure_channel(
            self._address, options=tuple(self._wire.channel_options)
        )
        self._call = self._channel.unary_unary(self._wire.unary_path)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    async def check(self) -> None:
        """Send one request. Raises BenchError unless all its items are answered."""
        samples = Samples()
        self._begin(RoundSpec(load=self._load, round=0, lead_s=0, seconds=0), samples)
        if self._load.stream:
            stream = self._stream()
            await stream.send(0.0)
            await stream.finish(_FIRST_ANSWER_S)
        else:
            await self._unary(self._messages[0], 0.0, _FIRST_ANSWER_S)
        if samples.errors:
            codes = ", ".join(samples.errors)
            raise BenchError(
                f"{self._address} answered the first request of {self._load.what} with "
                f"{codes} ({self._details or 'of an item'}): check that it serves this model"
            )

    async def round(self, spec: RoundSpec) -> Samples:
        """Run one round, wait for what is unanswered, and return the samples."""
        samples = Samples()
        self._begin(spec, samples)
        if self._load.open:
            await self._open_loop(spec)
        else:
            await self._closed_loop(spec)
        return samples

    def _begin(self, spec: RoundSpec, samples: Samples) -> None:
        which, clients = spec.share
        # Every client and every round starts elsewhere, every target at the same place.
        offset = (which * len(self._messages) // clients + spec.round * 97) % len(self._messages)
        self._pool = deque(self._messages)
        self._pool.rotate(-offset)
        self._samples = samples
        self._details = ""
        self._started = time.perf_counter()

    def _now(self) -> float:
        return time.perf_counter() - self._started

    def _stream(self) -> Stream:
        return Stream(
            self._channel.stream_stream(self._wire.stream_path),
            self._wire,
            self._pool,
            self._load.in_flight,
            self._samples,
            self._now,
        )

    async def _closed_loop(self, spec: RoundSpec) -> None:
        which, clients = spec.share
        mine = len(range(which, self._load.concurrency, clients))
        if self._load.stream:
            at_once = mine * self._load.in_flight
            streams = [self._stream() for _ in range(mine)]
            await asyncio.gather(*(self._fill(stream, spec, at_once) for stream in streams))
            await asyncio.gather(*(stream.finish(DRAIN_S) for stream in streams))
        else:
            await asyncio.gather(*(self._caller(spec, mine) for _ in range(mine)))

    async def _caller(self, spec: RoundSpec, at_once: int) -> None:
        while self._continues(spec, at_once):
            message = self._next_message()
            if not await self._unary(message, self._now(), self._load.sent_timeout_s):
                await asyncio.sleep(_BACK_OFF_S)

    async def _fill(self, stream: Stream, spec: RoundSpec, at_once: int) -> None:
        while not stream.broken and self._continues(spec, at_once):
            await stream.send(None)

    def _continues(self, spec: RoundSpec, at_once: int) -> bool:
        """Whether a closed loop of `at_once` requests in flight sends more.

        The first of them meet an idle server, and the shares of them that fall in
        the measured time would count for more than the server does. So that time
        begins no earlier than as many were answered.
        """
        now = self._now()
        if len(self._samples.done_s) < at_once and now < _LONGEST_LEAD_S:
            return True
        if not self._samples.start_s:
            self._samples.start_s = max(now, spec.lead_s)
        return now < self._samples.start_s + spec.seconds

    async def _open_loop(self, spec: RoundSpec) -> None:
        end_s = spec.lead_s + spec.seconds
        times = self._load.send_times(spec.round, spec.share)
        tasks: set[asyncio.Task[bool]] = set()
        which, clients = spec.share
        # A stream belongs to one client; with more clients than streams some have none to use.
        mine = max(len(range(which, self._load.concurrency, clients)), 1)
        streams = [self._stream() for _ in range(mine if self._load.stream else 0)]
        queues: list[asyncio.Queue[float | None]] = [asyncio.Queue() for _ in streams]
        feeders = [
            asyncio.create_task(_feed(stream, queue))
            for stream, queue in zip(streams, queues, strict=True)
        ]
        sent = 0

        def send(intended_s: float) -> None:
            nonlocal sent
            if queues:
                queues[sent % len(queues)].put_nowait(intended_s)
                sent += 1
                return
            timeout_s = self._load.sent_timeout_s
            if timeout_s is not None:
                timeout_s = max(timeout_s - (self._now() - intended_s), 0.0)
            task = asyncio.create_task(self._unary(self._next_message(), intended_s, timeout_s))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        await _pace(times, end_s, self._started, send)
        for queue in queues:
            queue.put_nowait(None)
        await asyncio.gather(*feeders)
        await asyncio.gather(*tasks, *(stream.finish(DRAIN_S) for stream in streams))

    def _next_message(self) -> Message:
        self._pool.rotate(-1)
        return self._pool[-1]

    async def _unary(self, message: Message, intended_s: float, timeout_s: float | None) -> bool:
        """Send one request and record it; return whether the call itself succeeded."""
        sent_s = self._now()
        try:
            answer = await self._call(message.data, timeout=timeout_s or DRAIN_S)
        except grpc.aio.AioRpcError as error:
            done_s = self._now()
            self._details = error.details() or ""
            codes = [error.code().name] * message.items
            self._samples.add(intended_s, sent_s, done_s, message.items, codes)
            return False
        done_s = self._now()
        codes = [code for code in self._wire.read(answer) if code is not None]
        self._samples.add(intended_s, sent_s, done_s, message.items, codes)
        return True


async def _feed(stream: Stream, times: "asyncio.Queue[float | None]") -> None:
    while (intended_s := await times.get()) is not None:
        await stream.send(intended_s)


async def _pace(
    times: Iterator[float], end_s: float, started: float, send: Callable[[float], None]
) -> None:
    """Call `send` with each time, at that time, until `end_s`.

    From a thread, since asyncio's timers are up to a millisecond late.
    """
    loop = asyncio.get_running_loop()
    done = asyncio.Event()

    def pace() -> None:
        for intended_s in times:
            if intended_s >= end_s:
                break
            if (wait_s := started + intended_s - time.perf_counter()) > 0:
                time.sleep(wait_s)
            loop.call_soon_threadsafe(send, intended_s)
        loop.call_soon_threadsafe(done.set)

    thread = threading.Thread(target=pace)
    thread.start()
    await done.wait()
    thread.join()
