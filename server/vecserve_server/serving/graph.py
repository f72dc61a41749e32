"""One graph in service: its queue, and the bound on what waits for it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from vecserve_server.engine.batch import Job
from vecserve_server.errors import InvalidItem, QueueFull
from vecserve_server.scheduling.runner import JobOutcome, JobQueue, Runner

# How much a new measurement moves the running mean of seconds a row.
_SMOOTHING = 0.1


class ServedGraph:
    """Runs jobs on one graph, for all callers. Lives on one event loop.

    `capacity` bounds the rows that wait or run, and so the memory they take;
    `slots` is how many batches the machine runs at a time.
    """

    def __init__(self, runner: Runner, queue: JobQueue, *, capacity: int, slots: int) -> None:
        self._runner = runner
        self._queue = queue
        self._slots = slots
        self._capacity = capacity
        self._seconds_per_row = 0.0
        self._unanswered = 0
        self._places = asyncio.Semaphore(capacity)
        self._one_at_a_time = asyncio.Lock()

    @property
    def name(self) -> str:
        """Name of the graph in metrics, `<model>/<version>/<modality>`."""
        return self._queue.name

    def count_unanswered(self) -> int:
        """Return how many rows were accepted and not answered yet."""
        return self._unanswered

    def refuse_if_full(self, rows: int) -> None:
        """Raise if `rows` more cannot be taken now: InvalidItem if never, else QueueFull."""
        if rows > self._capacity:
            raise InvalidItem(
                "TOO_MANY_ITEMS",
                f"the request holds {rows} items, this model takes {self._capacity} at a time: "
                "use a stream, or smaller requests",
            )
        if self._unanswered + rows > self._capacity:
            wait_s = self._unanswered * self._seconds_per_row / self._slots
            raise QueueFull(
                f"{self._unanswered} items wait for this model already, of at most "
                f"{self._capacity}: try again in {wait_s:.1f} s, or use a stream, which waits",
                retry_after_s=wait_s,
            )

    @asynccontextmanager
    async def unanswered(self, rows: int) -> AsyncIterator[None]:
        """Count rows as accepted and not answered yet."""
        self._unanswered += rows
        try:
            yield
        finally:
            self._unanswered -= rows

    @asynccontextmanager
    async def places(self, rows: int) -> AsyncIterator[None]:
        """Hold places in the queue for rows that will run; wait for them if need be."""
        held = 0
        try:
            # One caller at a time: two that each hold half of what they need
            # would wait for each other for ever.
            async with self._one_at_a_time:
                for _ in range(rows):
                    await self._places.acquire()
                    held += 1
            yield
        finally:
            for _ in range(held):
                self._places.release()

    async def run(self, job: Job) -> JobOutcome:
        """Let a job wait its turn and run it. Hold places for its rows meanwhile."""
        outcome = await self._runner.run(self._queue, job)
        seconds = (outcome.ended_s - outcome.started_s) / outcome.batch_rows
        self._seconds_per_row += _SMOOTHING * (seconds - self._seconds_per_row)
        return outcome
