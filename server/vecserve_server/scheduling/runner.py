"""Runs the scheduler's batches: asyncio on one side, compute threads on the other."""

import asyncio
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from vecserve_server.engine.batch import Job, JobOutputs
from vecserve_server.scheduling.scheduler import Batch, BatchLimits, Entry, Queue, Scheduler


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """What became of one job, and what it cost. Times are of time.perf_counter().

    `batch_rows` is how many rows its batch had, its own included.
    """

    outputs: JobOutputs | Exception
    started_s: float
    ended_s: float
    batch_rows: int


@dataclass(frozen=True, slots=True)
class BatchReport:
    """What one batch cost, for the metrics."""

    graph: str
    rows: int
    positions: int
    padded_positions: int
    compute_s: float


class BatchEngine(Protocol):
    """Runs one batch: outputs or an exception a job, never raising."""

    def run(self, jobs: Sequence[Job]) -> list[JobOutputs | Exception]:
        """Run the jobs."""
        ...

    def key(self, job: Job) -> Hashable:
        """Return what two jobs must have in common to share a batch."""
        ...


JobFuture = asyncio.Future[JobOutcome]
JobBatch = Batch[JobFuture, Job]
JobQueue = Queue[JobFuture, Job]


class Runner:
    """Lets jobs of all models wait, and runs them. Lives on one event loop.

    `slots` batches run at a time, each on a thread of its own.
    """

    def __init__(self, slots: int, report: Callable[[BatchReport], None]) -> None:
        self._scheduler: Scheduler[JobFuture, Job] = Scheduler(slots)
        self._threads = ThreadPoolExecutor(slots, thread_name_prefix="compute")
        self._engines: dict[str, BatchEngine] = {}
        self._report = report

    def add(self, name: str, limits: BatchLimits, engine: BatchEngine) -> JobQueue:
        """Add a queue whose batches `engine` runs. `name` must be unique."""
        self._engines[name] = engine
        return self._scheduler.add_queue(name, limits)

    async def run(self, queue: JobQueue, job: Job) -> JobOutcome:
        """Let a job wait its turn, run it, and return what became of it.

        If the caller is cancelled before the job's batch starts, the job is
        dropped.
        """
        future: JobFuture = asyncio.get_running_loop().create_future()
        key = self._engines[queue.name].key(job)
        self._scheduler.submit(queue, Entry(job.rows, job.positions, key, future, job))
        self._start_batches()
        return await future

    def close(self) -> None:
        """Wait for the batches that run, and end the threads."""
        self._threads.shutdown()

    def _start_batches(self) -> None:
        while batch := self._scheduler.next_batch():
            self._start(batch)

    def _start(self, batch: JobBatch) -> None:
        loop = asyncio.get_running_loop()
        engine = self._engines[batch.queue.name]
        jobs = [entry.payload for entry in batch.entries]

        def work() -> None:
            started = time.perf_counter()
            outputs = engine.run(jobs)
            ended = time.perf_counter()
            loop.call_soon_threadsafe(self._finish, batch, outputs, started, ended)

        self._threads.submit(work)

    def _finish(
        self,
        batch: JobBatch,
        outputs: list[JobOutputs | Exception],
        started_s: float,
        ended_s: float,
    ) -> None:
        self._scheduler.finished(batch)
        self._start_batches()
        for entry, output in zip(batch.entries, outputs, strict=True):
            if not entry.ticket.cancelled():
                entry.ticket.set_result(JobOutcome(output, started_s, ended_s, batch.rows))
        self._report(
            BatchReport(
                graph=batch.queue.name,
                rows=batch.rows,
                positions=batch.positions,
                padded_positions=batch.padded_positions,
                compute_s=ended_s - started_s,
            )
        )
