"""Graph in service: its queue, and the bound on what waits for it."""

import asyncio
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

from vecserve_server.engine.engine import Job
from vecserve_server.engine.tensors import TensorSpec
from vecserve_server.errors import InvalidItem, QueueFull
from vecserve_server.reasons import Reason
from vecserve_server.scheduling.options import JobOptions
from vecserve_server.scheduling.runner import JobOutcome, JobQueue, Runner
from vecserve_server.serving.semaphore import WeightedSemaphore


class ServedGraph:
    """Runs jobs on one graph, for all callers. Lives on one event loop.

    `inputs` and `outputs` are the graph's own. `capacity` bounds the rows that
    wait or run, and so the memory they take.
    """

    def __init__(
        self,
        runner: Runner,
        queue: JobQueue,
        *,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        capacity: int,
    ) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self._runner = runner
        self._queue = queue
        self._capacity = capacity
        self._unanswered = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.queue_slots = WeightedSemaphore(capacity)
        """Those of the queue: take one for each row before it runs, and give it back after."""

    @property
    def name(self) -> str:
        """Name of the graph in metrics, `<model>/<version>/<modality>`."""
        return self._queue.name

    def count_unanswered(self) -> int:
        """Return how many rows were accepted and not answered yet."""
        return self._unanswered

    def wait_s(self, caller: Hashable) -> float:
        """Predict how long a new job of this caller would wait before it starts."""
        return self._runner.wait_s(caller)

    def refuse_if_full(self, rows: int, caller: Hashable) -> None:
        """Raise if `rows` more cannot be taken now: InvalidItem if never, else QueueFull."""
        if rows > self._capacity:
            raise InvalidItem(
                Reason.TOO_MANY_ITEMS,
                f"the request holds {rows} items, this model takes {self._capacity} at a time: "
                "use a stream, or smaller requests",
            )
        if self._unanswered + rows > self._capacity:
            wait_s = self.wait_s(caller)
            raise QueueFull(
                f"{self._unanswered} items wait for this model already, of at most "
                f"{self._capacity}: try again in {wait_s:.1f} s, or use a stream, which waits",
                retry_after_s=wait_s,
            )

    @contextmanager
    def unanswered(self, rows: int) -> Iterator[None]:
        """Count rows as accepted and not answered yet."""
        self._unanswered += rows
        self._idle.clear()
        try:
            yield
        finally:
            self._unanswered -= rows
            if not self._unanswered:
                self._idle.set()

    async def run(self, job: Job, job_options: JobOptions) -> JobOutcome:
        """Let a job wait its turn and run it. Hold places for its rows meanwhile.

        Raises DeadlineMissed.
        """
        return await self._runner.run(self._queue, job, job_options)

    async def retire(self) -> None:
        """Wait until all that was accepted is answered, and let go of the graph.

        Call it once nobody can find this graph any more.
        """
        await self._idle.wait()
        self._runner.remove(self._queue)
