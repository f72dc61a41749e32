"""One graph in service: its queue, and the bound on what waits for it."""

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

from vecserve_server.engine.batch import Job
from vecserve_server.errors import InvalidItem, QueueFull
from vecserve_server.scheduling.entry import Terms
from vecserve_server.scheduling.runner import JobOutcome, JobQueue, Runner


class ServedGraph:
    """Runs jobs on one graph, for all callers. Lives on one event loop.

    `capacity` bounds the rows that wait or run, and so the memory they take.
    """

    def __init__(self, runner: Runner, queue: JobQueue, *, capacity: int) -> None:
        self._runner = runner
        self._queue = queue
        self._capacity = capacity
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

    def refuse_if_full(self, rows: int, caller: Hashable) -> None:
        """Raise if `rows` more cannot be taken now: InvalidItem if never, else QueueFull."""
        if rows > self._capacity:
            raise InvalidItem(
                "TOO_MANY_ITEMS",
                f"the request holds {rows} items, this model takes {self._capacity} at a time: "
                "use a stream, or smaller requests",
            )
        if self._unanswered + rows > self._capacity:
            wait_s = self._runner.wait_s(caller)
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

    async def run(self, job: Job, terms: Terms) -> JobOutcome:
        """Let a job wait its turn and run it. Hold places for its rows meanwhile.

        Raises DeadlineMissed.
        """
        return await self._runner.run(self._queue, job, terms)
