"""Runner of the scheduler's batches: asyncio on one side, compute threads on the other."""

import asyncio
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from vecserve_server.engine.engine import Job, JobOutputs
from vecserve_server.engine.watchdog import RunLimit, RunTerminated, RunTimedOut
from vecserve_server.errors import ComputeFailed, DeadlineMissed
from vecserve_server.reasons import Reason
from vecserve_server.scheduling.cost_model import CostModel
from vecserve_server.scheduling.options import BatchLimits, JobOptions
from vecserve_server.scheduling.queue import Entry, Queue
from vecserve_server.scheduling.running_batch import RunningBatch
from vecserve_server.scheduling.scheduler import Batch, Scheduler
from vecserve_server.scheduling.time_limit import TimeLimit


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
    timed_out: bool


class BatchEngine(Protocol):
    """Runs one batch: outputs or an exception a job, never raising."""

    def run(
        self, jobs: Sequence[Job], *, all_cores: bool, limit: RunLimit
    ) -> list[JobOutputs | Exception]:
        """Run the jobs, on one core or on all, within a limit."""
        ...

    def key(self, job: Job) -> Hashable:
        """Return what two jobs must have in common to share a batch."""
        ...


@dataclass(slots=True, eq=False)
class _Work:
    """A job, its batch while that runs, and its outcome: None if it missed its deadline.

    Not an exception: it would hold the frames that await it, with the job's
    arrays, and they it, until the garbage collector comes.
    """

    job: Job
    outcome: "asyncio.Future[JobOutcome | None]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    batch: RunningBatch | None = None


JobQueue = Queue[_Work]


class Runner:
    """Lets jobs of all models wait, and runs them. Lives on one event loop.

    At most `cores` batches run at a time, each on a thread of its own.
    """

    def __init__(
        self, cores: int, report: Callable[[BatchReport], None], time_limit: TimeLimit
    ) -> None:
        self._scheduler: Scheduler[_Work] = Scheduler(cores)
        self._threads = ThreadPoolExecutor(cores, thread_name_prefix="compute")
        self._engines: dict[JobQueue, BatchEngine] = {}
        self._report = report
        self._time_limit = time_limit
        self._running: dict[RunLimit, Batch[_Work]] = {}
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

        Raises DeadlineMissed if it cannot be answered in time, ComputeFailed if its run, alone,
        is ended by the time limit. If the caller is cancelled the job is dropped, and its batch
        ended if nobody else waits for that.
        """
        outcome = await self._run_once(queue, job, self._engines[queue].key(job), options)
        if isinstance(outcome.outputs, RunTimedOut) and outcome.batch_rows > job.rows:
            # Which of the batch hangs is not known; the others lose nothing but time.
            outcome = await self._run_once(queue, job, object(), options, for_mates=False)
        if isinstance(outcome.outputs, RunTimedOut):
            raise ComputeFailed(
                Reason.BATCH_TIMED_OUT,
                f"the model was stopped on this item: {outcome.outputs}; send less at once, or "
                "start the server with a larger --max-batch-s",
            )
        return outcome

    async def _run_once(
        self,
        queue: JobQueue,
        job: Job,
        key: Hashable,
        options: JobOptions,
        *,
        for_mates: bool = True,
    ) -> JobOutcome:
        work = _Work(job)
        entry = Entry(queue, job.rows, job.positions, key, options, work)
        self._scheduler.submit(entry, time.perf_counter(), for_mates=for_mates)
        self._start_batches()
        try:
            outcome = await work.outcome
        finally:
            self._scheduler.withdraw(entry)
            if work.batch and work.outcome.cancelled():
                work.batch.leave()
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
        works = [entry.payload for entry in batch.entries]
        jobs = [work.job for work in works]
        limit = RunLimit(
            batch.queue.name,
            self._time_limit.seconds(batch.queue.cost, batch.rows, batch.longest),
            lambda stuck: loop.call_soon_threadsafe(self._give_up, stuck),
        )
        self._running[limit] = batch
        running = RunningBatch(
            limit,
            [work.outcome for work in works],
            [entry.deadline_s for entry in batch.entries],
        )
        for work in works:
            work.batch = running

        def work_on() -> None:
            started = time.perf_counter()
            outputs = engine.run(jobs, all_cores=batch.all_cores, limit=limit)
            ended = time.perf_counter()
            loop.call_soon_threadsafe(self._finish, limit, batch, outputs, started, ended)

        self._threads.submit(work_on)

    def _give_up(self, limit: RunLimit) -> None:
        """Answer the callers of a batch whose run does not end; its slots stay taken."""
        if batch := self._running.pop(limit, None):
            now_s = time.perf_counter()
            self._answer(batch, [limit.timed_out] * len(batch.entries), now_s - limit.max_s, now_s)

    def _finish(
        self,
        limit: RunLimit,
        batch: Batch[_Work],
        outputs: list[JobOutputs | Exception],
        started_s: float,
        ended_s: float,
    ) -> None:
        seconds = ended_s - started_s
        was_ended = any(isinstance(output, RunTerminated) for output in outputs)
        self._scheduler.finished(batch, None if was_ended else seconds, time.perf_counter())
        self._start_batches()
        if self._running.pop(limit, None):
            self._answer(batch, outputs, started_s, ended_s)
        self._report(
            BatchReport(
                graph=batch.queue.name,
                rows=batch.rows,
                positions=batch.positions,
                padded_positions=batch.rows * batch.longest,
                compute_s=seconds,
                timed_out=any(isinstance(output, RunTimedOut) for output in outputs),
            )
        )

    @staticmethod
    def _answer(
        batch: Batch[_Work],
        outputs: Sequence[JobOutputs | Exception],
        started_s: float,
        ended_s: float,
    ) -> None:
        for entry, output in zip(batch.entries, outputs, strict=True):
            work = entry.payload
            if work.batch:
                work.batch.ended()
                work.batch = None
            if not work.outcome.done():
                work.outcome.set_result(JobOutcome(output, started_s, ended_s, batch.rows))
