"""One graph, loaded: its pipeline, its queue and its bounds, and an item's way through them."""

import asyncio
import time
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vecserve_server.engine.batch import RowRequest
from vecserve_server.errors import ComputeFailed, InvalidItem, QueueFull
from vecserve_server.pipelines.base import Content, FinishedVector, Pipeline, Prepared
from vecserve_server.pipelines.finish import finish
from vecserve_server.repository.manifest import Tower
from vecserve_server.scheduling.preparer import Preparer
from vecserve_server.scheduling.runner import RowOutcome, RowQueue, Runner
from vecserve_server.serving.options import EmbedOptions, resolve

# How much a new measurement moves the running mean of seconds a row.
_SMOOTHING = 0.1


@dataclass(slots=True)
class Timings:
    """Where one item's time went, in seconds; None where it was not reached."""

    prepare_s: float | None = None
    queue_s: float | None = None
    compute_s: float | None = None
    batch_size: int = 0


@dataclass(frozen=True, slots=True)
class Embedded:
    """One item's vectors."""

    vectors: list[FinishedVector]
    token_count: int
    truncated: bool


@dataclass(frozen=True, slots=True)
class _Job:
    content: Content
    refuse_truncation: bool


class LoadedTower:
    """One graph of a model, ready to embed. Lives on one event loop.

    `capacity` bounds the rows that wait or run, and so the memory they take;
    `slots` is how many batches the machine runs at a time.
    """

    def __init__(
        self,
        tower: Tower,
        pipeline: Pipeline,
        runner: Runner,
        queue: RowQueue,
        prepare_threads: Executor,
        *,
        max_hops: int,
        capacity: int,
        slots: int,
    ) -> None:
        self.tower = tower
        self._capacity = capacity
        self._unanswered = 0
        self._runner = runner
        self._queue = queue
        self._slots = slots
        self._seconds_per_row = 0.0
        self._prepare = Preparer[_Job, Prepared](
            lambda job: pipeline.prepare(job.content, refuse_truncation=job.refuse_truncation),
            prepare_threads,
            items_per_hop=pipeline.items_per_hop,
            max_hops=max_hops,
        )
        # Items prepared but not yet in the queue: enough to keep the threads busy.
        self._staging = asyncio.Semaphore(2 * max_hops * pipeline.items_per_hop)
        self._places = asyncio.Semaphore(capacity)
        self._one_at_a_time = asyncio.Lock()

    @property
    def graph(self) -> str:
        """Name of the graph in metrics, `<model>/<version>/<modality>`."""
        return self._queue.name

    def count_unanswered(self) -> int:
        """Return how many items it has accepted and not answered yet."""
        return self._unanswered

    def refuse_if_full(self, items: int) -> None:
        """Raise if `items` more cannot be taken now: InvalidItem if never, else QueueFull."""
        if items > self._capacity:
            raise InvalidItem(
                "TOO_MANY_ITEMS",
                f"the request holds {items} items, this model takes {self._capacity} at a time: "
                "use EmbedStream",
            )
        if self._unanswered + items > self._capacity:
            wait_s = self._unanswered * self._seconds_per_row / self._slots
            raise QueueFull(
                f"{self._unanswered} items wait for this model already, of at most "
                f"{self._capacity}: try again in {wait_s:.1f} s, or use EmbedStream, which waits",
                retry_after_s=wait_s,
            )

    async def embed(self, content: Content, options: EmbedOptions, timings: Timings) -> Embedded:
        """Take one item through prepare, queue, compute and finish; fill in `timings`.

        Waits while the queue is full. Raises InvalidItem, ComputeFailed.
        """
        self._unanswered += 1
        try:
            return await self._embed(content, options, timings)
        finally:
            self._unanswered -= 1

    async def _embed(self, content: Content, options: EmbedOptions, timings: Timings) -> Embedded:
        plan = resolve(options, self.tower)
        accepted = time.perf_counter()
        async with AsyncExitStack() as held:
            async with self._staging:
                prepared = await self._prepare(_Job(content, options.refuse_truncation))
                queued = time.perf_counter()
                timings.prepare_s = queued - accepted
                await held.enter_async_context(self._places_for(len(prepared.rows)))
            outcomes = await self._compute(prepared, plan.output.name)
        timings.queue_s = min(outcome.started_s for outcome in outcomes) - queued
        timings.compute_s = sum(outcome.ended_s - outcome.started_s for outcome in outcomes)
        timings.batch_size = max(outcome.batch_size for outcome in outcomes)
        vectors = finish(plan, prepared.rows, [_output_of(outcome) for outcome in outcomes])
        return Embedded(vectors, prepared.token_count, prepared.truncated)

    async def _compute(self, prepared: Prepared, output: str) -> list[RowOutcome]:
        """Run all rows of an item; they may land in several batches."""
        requests = [RowRequest(row.feeds, row.positions, output) for row in prepared.rows]
        outcomes = await asyncio.gather(
            *(self._runner.run(self._queue, request) for request in requests)
        )
        for outcome in outcomes:
            seconds = (outcome.ended_s - outcome.started_s) / outcome.batch_size
            self._seconds_per_row += _SMOOTHING * (seconds - self._seconds_per_row)
        return outcomes

    @asynccontextmanager
    async def _places_for(self, rows: int) -> AsyncIterator[None]:
        """Hold places in the queue for an item's rows; wait for them if need be."""
        held = 0
        try:
            # One item at a time: two that each hold half of what they need
            # would wait for each other for ever.
            async with self._one_at_a_time:
                for _ in range(rows):
                    await self._places.acquire()
                    held += 1
            yield
        finally:
            for _ in range(held):
                self._places.release()


def _output_of(outcome: RowOutcome) -> npt.NDArray[np.float32]:
    """Return the row's output. Raises ComputeFailed if it has none, or none that is usable."""
    if isinstance(outcome.output, Exception):
        raise ComputeFailed(
            "COMPUTE_FAILED", f"the model failed on this item: {outcome.output}"
        ) from outcome.output
    values = outcome.output.astype(np.float32, copy=False)
    if not np.isfinite(values).all():
        raise ComputeFailed("NOT_FINITE", "the model gave numbers that are not finite")
    return values
