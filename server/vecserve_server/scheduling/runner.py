"""Runner of the scheduler's batches: asyncio on one side, compute threads on the other."""

import asyncio
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from vecserve_server.engine.engine import Job, JobOutputs
from vecserve_server.errors import DeadlineMissed
from vecserve_server.reasons import Reason
from vecserve_server.scheduling.cost_model import CostModel
from vecserve_server.scheduling.options import BatchLimits, JobOptions
from vecserve_server.scheduling.queue import Entry, Queue
from vecserve_server.scheduling.scheduler import Batch, Scheduler


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

    def run(self, jobs: Sequence[Job], *, all_cores: bool = False) -> list[JobOutputs | Exception]:
        """Run the jobs, on one core or on all."""
        ...

    def key(self, job: Job) -> Hashable:
        """Return what two jobs must have in common to share a batch."""
        ...


@dataclass(frozen=True, slots=True)
class _Work:
    """A job, and where its outcome goes: None if it missed its deadline.

    Not an exception: it would hold the frames that await it, with the job's
    arrays, and they it, until the garbage collector comes.
    """

    job: Job
    outcome: "asyncio.Future[JobOutcome | None]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


JobQueue = Queue[_Work]


class Runner:
    """Lets jobs of all models wait, and runs them. Lives on one event loop.

    At most `cores` batches run at a time, each on a thread of its own.
    """

    def __init__(self, cores: int, report: Callable[[BatchReport], None]) -> None:
        self._scheduler: Scheduler[_Work] = Scheduler(cores)
        self._threads = ThreadPoolExecutor(cores, thread_name_prefix="compute")
        self._engines: dict[JobQueue, BatchEngine] = {}
        self._report = report
        self._wake: asyncio.TimerHandle | None = None

    def add(self, name: str, limits: BatchLimits, cost: CostModel, engine: BatchEngine) -> JobQueue:
        """Add a queue whose batches `engine` runs."""
        queue: JobQueue = Queue(name, limits, cost)
        self._engines[queue] = engine
        self._scheduler.add(queue)
        return queue

    def remove(self, queue: JobQueue) -> None:
        """Forget a queue in which nothing waits or runs, and its engine."""
        self._scheduler.remove(queue)
        del self._engines[queue]

    def wait_s(self, caller: Hashable) -> float:
        """Predict how long a new job of this caller would wait before it starts."""
        return self._scheduler.wait_s(caller)

    async def run(self, queue: JobQueue, job: Job, options: JobOptions) -> JobOutcome:
        """Let a job wait its turn, run it, and return what became of it.

        Raises DeadlineMissed if it cannot be answered in time. If the caller is
        cancelled before the job's batch starts, the job is dropped.
        """
        work = _Work(job)
        key = self._engines[queue].key(job)
        entry = Entry(queue, job.rows, job.positions, key, options, work)
        self._scheduler.submit(entry, time.perf_counter())
        self._start_batches()
        try:
            outcome = await work.outcome
        finally:
            self._scheduler.withdraw(entry)
        if outcome is None:
            raise DeadlineMissed(
                Reason.DEADLINE_MISSED,
                "the item cannot be answered before its deadline: allow more time, or, "
                "if the server is busy, send less at once",
            )
        return outcome

    def close(self) -> None:
        """Wait for the batches that run, and end the threads."""
        self._threads.shutdown()

    def _start_batches(self) -> None:
        while batch := self._scheduler.next_batch(time.perf_counter()):
            self._start(batch)
        while self._scheduler.late:
            work = self._scheduler.late.popleft().payload
            if not work.outcome.done():
                work.outcome.set_result(None)
        self._wake_in_time()

    def _wake_in_time(self) -> None:
        """Come back when a queue that waits for batch-mates has waited enough."""
        if self._wake:
            self._wake.cancel()
            self._wake = None
        if (wake_s := self._scheduler.next_wake_s()) is not None:
            delay_s = max(wake_s - time.perf_counter(), 0.0)
            self._wake = asyncio.get_running_loop().call_later(delay_s, self._start_batches)

    def _start(self, batch: Batch[_Work]) -> None:
        loop = asyncio.get_running_loop()
        engine = self._engines[batch.queue]
        jobs = [entry.payload.job for entry in batch.entries]

        def work() -> None:
            started = time.perf_counter()
            outputs = engine.run(jobs, all_cores=batch.all_cores)
            ended = time.perf_counter()
            loop.call_soon_threadsafe(self._finish, batch, outputs, started, ended)

        self._threads.submit(work)

    def _finish(
        self,
        batch: Batch[_Work],
        outputs: list[JobOutputs | Exception],
        started_s: float,
        ended_s: float,
    ) -> None:
        self._scheduler.finished(batch, ended_s - started_s, time.perf_counter())
        self._start_batches()
        for entry, output in zip(batch.entries, outputs, strict=True):
            outcome = entry.payload.outcome
            if not outcome.done():
                outcome.set_result(JobOutcome(output, started_s, ended_s, batch.rows))
        self._report(
            BatchReport(
                graph=batch.queue.name,
                rows=batch.rows,
                positions=batch.positions,
                padded_positions=batch.rows * batch.longest,
                compute_s=ended_s - started_s,
            )
        )
