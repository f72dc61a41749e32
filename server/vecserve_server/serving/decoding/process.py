"""Worker process as the server sees it: started, asked one task at a time, ended."""

import asyncio
import contextlib
import multiprocessing
import os
import socket
from functools import cache
from multiprocessing.process import BaseProcess

from pydantic import ValidationError

from vecserve_server.modalities.rows import Prepared
from vecserve_server.serving.decoding.messages import Reply, Task, find, pickled
from vecserve_server.serving.decoding.shared_memory import mapped
from vecserve_server.serving.decoding.worker import LENGTH, work

# Never forked from the server itself: its threads hold locks.
_context = multiprocessing.get_context("forkserver")
# `preload` is to come before NumPy. A modality that is not named is imported in each worker.
_context.set_forkserver_preload(
    [
        "vecserve_server.serving.decoding.preload",
        "vecserve_server.serving.decoding.worker",
        "vecserve_server.modalities.audio",
        "vecserve_server.modalities.image",
    ]
)

_READ_BYTES = 1 << 16
# Longest reply: ten times that of a long recording cut into windows of a second.
_MAX_REPLY_BYTES = 4 << 20


class WorkerDied(Exception):
    """The worker ended before it answered, or what it answered is no reply."""


@cache
def start_fork_server() -> None:
    """Start what workers are forked from, all that they need imported; once, in half a second."""
    process = _context.Process(target=os.getpid)
    process.start()
    process.join()


class WorkerProcess:
    """One worker. Lives on one event loop."""

    def __init__(self, process: BaseProcess, connection: socket.socket) -> None:
        self._process = process
        self._connection = connection
        self._received = bytearray()
        self._descriptors: list[int] = []
        self._news = asyncio.Event()
        self.alive = True
        connection.setblocking(False)
        asyncio.get_running_loop().add_reader(connection.fileno(), self._read)

    @classmethod
    async def start(cls, memory_bytes: int, max_cpu_s: float) -> "WorkerProcess":
        """Fork a worker that has these bounds. Must not be cancelled."""
        ours, theirs = socket.socketpair()
        process = _context.Process(target=work, args=(theirs, memory_bytes, max_cpu_s), daemon=True)
        with theirs:
            await asyncio.to_thread(process.start)
        return cls(process, ours)

    async def ask(self, task: Task) -> Prepared | Reply:
        """Return what comes of a task: the prepared item, or else the reply that says why not.

        A worker that was not listened to until it answered must be ended. Raises
        WorkerDied.
        """
        loop = asyncio.get_running_loop()
        # One that ends meanwhile is found out below.
        with contextlib.suppress(ConnectionError):
            for chunk in pickled(task):
                await loop.sock_sendall(self._connection, chunk)
        while self.alive:
            if (text := self._take_text()) is not None:
                return self._understood(text)
            self._news.clear()
            await self._news.wait()
        raise WorkerDied

    async def end(self) -> int | None:
        """Let it go once it is dead: return its exit code, or None if it has to be killed."""
        killed = self.alive
        if killed:
            self._stop_reading()
            self._process.kill()
        self._connection.close()
        while self._descriptors:
            os.close(self._descriptors.pop())
        await asyncio.to_thread(self._process.join)
        exit_code = self._process.exitcode
        self._process.close()
        return None if killed else exit_code

    def _read(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._connection, _READ_BYTES, 1)
        except BlockingIOError:
            return
        except ConnectionError:
            data, descriptors = b"", []
        self._received += data
        self._descriptors += descriptors
        if not data or len(self._received) > _MAX_REPLY_BYTES or len(self._descriptors) > 1:
            self._stop_reading()
        self._news.set()

    def _take_text(self) -> bytes | None:
        """Return the reply that has been received, None if it is not whole."""
        received = self._received
        if len(received) < LENGTH.size:
            return None
        end = LENGTH.size + LENGTH.unpack_from(received)[0]
        if len(received) < end:
            return None
        self._received = bytearray()
        return bytes(received[LENGTH.size : end])

    def _understood(self, text: bytes) -> Prepared | Reply:
        descriptors, self._descriptors = self._descriptors, []
        try:
            reply = Reply.model_validate_json(text)
            if reply.prepared is None:
                return reply
            memory = mapped(descriptors[0], reply.prepared.size)
            return find(reply.prepared, memory)
        except (ValidationError, LookupError, ValueError, TypeError, OSError) as error:
            raise WorkerDied from error
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _stop_reading(self) -> None:
        self.alive = False
        asyncio.get_running_loop().remove_reader(self._connection.fileno())
