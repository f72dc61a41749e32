"""Runs the scheduler's batches: asyncio on one side, compute threads on the other."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from vecserve_server.engine.batch import RowRequest
from vecserve_server.engine.session import Array
from vecserve_server.scheduling.scheduler import Batch, BatchLimits, Entry, Queue, Scheduler


@dataclass(frozen=True, slots=True)
class RowOutcome:
    """What became of one row, and what it cost. Times are of time.perf_counter()."""

    output: Array | Exception
    started_s: float
    ended_s: float
    batch_size: int


@dataclass(frozen=True, slots=True)
class BatchReport:
    """What one batch cost, for the metrics."""

    graph: str
    rows: int
    positions: int
    padded_positions: int
    compute_s: float


class BatchEngine(Protocol):
    """Runs one batch: an output or an exception a row, never raising."""

    def run(self, rows: Sequence[RowRequest]) -> list[Array | Exception]:
        """Run the rows."""
        ...


RowFuture = asyncio.Future[RowOutcome]
RowBatch = Batch[RowFuture, RowRequest]
RowQueue = Queue[RowFuture, RowRequest]


class Runner:
    """Lets rows of all models wait, and runs them. Lives on one event loop.

    `slots` batches run at a time, each on a thread of its own.
    """

    def __init__(self, slots: int, report: Callable[[BatchReport], None]) -> None:
        self._scheduler: Scheduler[RowFuture, RowRequest] = Scheduler(slots)
        self._threads = ThreadPoolExecutor(slots, thread_name_prefix="compute")
        self._engines: dict[str, BatchEngine] = {}
        self._report = report

    def add(self, name: str, limits: BatchLimits, engine: BatchEngine) -> RowQueue:
        """Add a queue whose batches `engine` runs. `name` must be unique."""
        self._engines[name] = engine
        return self._scheduler.add_queue(name, limits)

    async def run(self, queue: RowQueue, row: RowRequest) -> RowOutcome:
        """Let a row wait its turn, run it, and return what became of it.

        If the caller is cancelled before the row's batch starts, the row is
        dropped.
        """
        future: RowFuture = asyncio.get_running_loop().create_future()
        self._scheduler.submit(queue, Entry(row.positions, future, row))
        self._start_batches()
        return await future

    def close(self) -> None:
        """Wait for the batches that run, and end the threads."""
        self._threads.shutdown()

    def _start_batches(self) -> None:
        while batch := self._scheduler.next_batch():
            self._start(batch)

    def _start(self, batch: RowBatch) -> None:
        loop = asyncio.get_running_loop()
        engine = self._engines[batch.queue.name]
        rows = [entry.payload for entry in batch.entries]

        def work() -> None:
            started = time.perf_counter()
            outputs = engine.run(rows)
            ended = time.perf_counter()
            loop.call_soon_threadsafe(self._finish, batch, outputs, started, ended)

        self._threads.submit(work)

    def _finish(
        self,
        batch: RowBatch,
        outputs: list[Array | Exception],
        started_s: float,
        ended_s: float,
    ) -> None:
        self._scheduler.finished(batch)
        self._start_batches()
        for entry, output in zip(batch.entries, outputs, strict=True):
            if not entry.ticket.cancelled():
                entry.ticket.set_result(RowOutcome(output, started_s, ended_s, len(batch.entries)))
        self._report(
            BatchReport(
                graph=batch.queue.name,
                rows=len(batch.entries),
                positions=sum(entry.positions for entry in batch.entries),
                padded_positions=batch.padded_positions,
                compute_s=ended_s - started_s,
            )
        )
