"""Pool of decode workers: items to workers, within bounds of time and memory.

A worker past a bound is killed and replaced: the item that it had is refused, no other is
touched. An item that nobody waits for any more ends with its worker, too.

Not a library's pool. Pebble 5.2 ends a worker by a signal that Python handles, so a decoder
in C goes on for the 3 s after which it is killed, and one such end waits for the other: of two
files of 30 CPU s, allowed 1 s, one was ended after 4.1 s and one after 7.1. It also unpickles
what workers send, and so would run what a file that has taken over a decoder sends. Loky has no
timeout for a task.
"""

import asyncio
import logging
import signal
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, TypeVar

from vecserve_server.errors import DeadlineMissed, InvalidItem, ServingError
from vecserve_server.modalities.content import Content
from vecserve_server.modalities.rows import Prepared
from vecserve_server.reasons import Reason
from vecserve_server.scheduling.deadline import Deadline
from vecserve_server.serving.budget import ByteBudget
from vecserve_server.serving.decoding.messages import Reply, Task
from vecserve_server.serving.decoding.process import WorkerDied, WorkerProcess, start_fork_server
from vecserve_server.serving.semaphore import WeightedSemaphore

_log = logging.getLogger(__name__)

T = TypeVar("T")

# An item that takes no more is decoded at once, whatever the others take: a photo of two
# megapixels.
_FREE_BYTES = 32 << 20
# A decoder that takes no CPU time hangs. On a busy machine CPU time takes a multiple of itself.
_WALL_PER_CPU = 10


class DecodePool:
    """Prepares items in up to `workers` processes, started as they are needed.

    `max_cpu_s` bounds the CPU time of each item. `memory_bytes` bounds what a worker may
    take beside its code, and what all items larger than an ordinary photo may take
    together: they wait for each other. Lives on one event loop.
    """

    def __init__(self, workers: int, memory_bytes: int, max_cpu_s: float) -> None:
        self._slots = WeightedSemaphore(workers)
        self._memory_bytes = memory_bytes
        self._budget = ByteBudget(memory_bytes)
        self._max_cpu_s = max_cpu_s
        self._idle: list[WorkerProcess] = []
        self._background: set[asyncio.Task[Any]] = set()

    def start(self) -> None:
        """Get ready to fork workers; slow, for a worker thread."""
        start_fork_server()

    async def prepare(
        self, modality: bytes, content: Content, *, refuse_truncation: bool, deadline: Deadline
    ) -> Prepared:
        """Prepare an item as the pickled `modality` does.

        Raises what it raises, InvalidItem: DECODING_TOO_SLOW, DECODING_TOO_LARGE,
        DECODER_CRASHED, and DeadlineMissed.
        """
        task = Task(modality, content, refuse_truncation, _FREE_BYTES)
        try:
            async with asyncio.timeout(deadline.remaining_s):
                reply = await self._ask(task)
                if isinstance(reply, Reply) and reply.needs_bytes:
                    reply = await self._ask_large(task, reply.needs_bytes)
        except TimeoutError as error:
            raise DeadlineMissed(
                Reason.DEADLINE_MISSED, "the deadline came before the file was decoded: allow more"
            ) from error
        if isinstance(reply, Prepared):
            return reply
        raise self._error_of(reply)

    async def close(self) -> None:
        """End all workers."""
        while self._idle:
            self._in_background(self._idle.pop().end())
        await asyncio.gather(*self._background, return_exceptions=True)

    async def _ask_large(self, task: Task, needs_bytes: int) -> Prepared | Reply:
        if needs_bytes > self._memory_bytes:
            raise _too_large(
                f"decoding the file takes about {needs_bytes >> 20} MiB of memory, the server "
                f"allows {self._memory_bytes >> 20}"
            )
        async with self._budget.hold(needs_bytes):
            return await self._ask(replace(task, memory_bytes=needs_bytes))

    async def _ask(self, task: Task) -> Prepared | Reply:
        worker = await self._take()
        try:
            async with asyncio.timeout(_WALL_PER_CPU * self._max_cpu_s):
                reply = await worker.ask(task)
        except BaseException as error:
            # Whatever it still does is for nobody.
            ending = self._in_background(self._end(worker))
            if isinstance(error, WorkerDied):
                refusal = self._refusal(await asyncio.shield(ending))
            elif isinstance(error, TimeoutError):
                refusal = self._too_slow()
            else:
                raise
            _log.warning("a decode worker ended and is replaced: %s", refusal)
            raise refusal from error
        self._put_back(worker)
        return reply

    async def _take(self) -> WorkerProcess:
        await self._slots.acquire(1)
        while self._idle:
            worker = self._idle.pop()
            if worker.alive:
                return worker
            self._in_background(worker.end())
        starting = self._in_background(WorkerProcess.start(self._memory_bytes, self._max_cpu_s))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            starting.add_done_callback(lambda started: self._put_back(started.result()))
            raise
        except OSError:
            self._slots.release(1)
            raise

    def _put_back(self, worker: WorkerProcess) -> None:
        self._idle.append(worker)
        self._slots.release(1)

    async def _end(self, worker: WorkerProcess) -> int | None:
        try:
            return await worker.end()
        finally:
            self._slots.release(1)

    def _in_background(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    def _refusal(self, exit_code: int | None) -> Exception:
        """Return the error of an item on which a worker ended by itself, or by the kernel."""
        if exit_code == -signal.SIGXCPU:
            return self._too_slow()
        # The kernel's, where memory is short: we wait for none that we end.
        if exit_code == -signal.SIGKILL:
            return _too_large("there is not enough memory to decode the file")
        if exit_code is None or exit_code > 0:
            return RuntimeError(f"a decode worker failed (exit code {exit_code})")
        return InvalidItem(
            Reason.DECODER_CRASHED,
            f"the decoder crashed on the file (signal {-exit_code}): write it anew",
        )

    def _too_slow(self) -> ServingError:
        return InvalidItem(
            Reason.DECODING_TOO_SLOW,
            f"the file takes more than {self._max_cpu_s:g} s to decode: write it anew in a "
            "simpler form, scale it down, or send it in parts",
        )

    def _error_of(self, reply: Reply) -> Exception:
        if reply.refusal:
            return InvalidItem(*reply.refusal)
        if reply.out_of_memory:
            return _too_large(
                f"decoding the file takes more than the {self._memory_bytes >> 20} MiB of memory "
                "that the server allows"
            )
        return RuntimeError(f"a decode worker failed:\n{reply.failure}")


def _too_large(what: str) -> ServingError:
    return InvalidItem(Reason.DECODING_TOO_LARGE, f"{what}: scale it down, or send it in parts")
