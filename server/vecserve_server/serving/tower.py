"""Tower in service: an item's way through prepare, queue, compute and finish."""

import asyncio
import pickle
import time
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from vecserve_server.engine.engine import Job
from vecserve_server.errors import ComputeFailed
from vecserve_server.modalities.base import Modality
from vecserve_server.modalities.content import Content
from vecserve_server.modalities.finish import finish
from vecserve_server.modalities.rows import FinishedVector, Prepared, Row
from vecserve_server.reasons import Reason
from vecserve_server.repository.manifest import Tower
from vecserve_server.scheduling.options import JobOptions
from vecserve_server.scheduling.runner import JobOutcome
from vecserve_server.serving.decoding.pool import DecodePool
from vecserve_server.serving.graph import ServedGraph
from vecserve_server.serving.options import Dimensions, EmbedOptions, resolve
from vecserve_server.serving.semaphore import FairSemaphore
from vecserve_server.telemetry.timings import Timings


@dataclass(frozen=True, slots=True)
class Embedded:
    """One item's vectors."""

    vectors: list[FinishedVector]
    token_count: int
    truncated: bool


class ServedTower:
    """A graph with the modality that feeds it raw items. Lives on one event loop."""

    def __init__(
        self,
        tower: Tower,
        modality: Modality[Any, Any],
        dimensions: Dimensions,
        graph: ServedGraph,
        prepare_threads: Executor,
        decoders: DecodePool | None,
        *,
        prepare_workers: int,
    ) -> None:
        self.tower = tower
        self.graph = graph
        self.modality = modality
        self._dimensions = dimensions
        self._threads = prepare_threads
        self._decoders = decoders
        self._pickled = pickle.dumps(modality) if modality.decodes else b""
        # Items being prepared, or prepared but not yet in the queue: enough to
        # keep the threads busy, and few enough for the event loop to prepare short
        # ones in between: a call of 60,000 texts stopped it for 25 s.
        self._staging = FairSemaphore(2 * prepare_workers)

    async def embed(
        self, content: Content, options: EmbedOptions, job_options: JobOptions, timings: Timings
    ) -> Embedded:
        """Take one item through prepare, queue, compute and finish; fill in `timings`.

        Waits while the queue is full. Whoever calls counts it as unanswered meanwhile.
        Raises InvalidItem, DeadlineMissed, ComputeFailed.
        """
        plan = resolve(
            options,
            self.tower,
            self._dimensions,
            windowed=self.modality.windowed,
            sampled=content.sampled,
        )
        prepared, queued = await self._prepare(content, options, job_options, timings)
        try:
            outcomes = await self._compute(prepared, plan.output.name, job_options)
        finally:
            self.graph.queue_slots.release(len(prepared.rows))
        timings.queue_s = min(outcome.started_s for outcome in outcomes) - queued
        timings.compute_s = sum(outcome.ended_s - outcome.started_s for outcome in outcomes)
        timings.batch_size = max(outcome.batch_rows for outcome in outcomes)
        timings.batches = {outcome.started_s: outcome.batch_rows for outcome in outcomes}
        outputs = [_row_of(outcome, plan.output.name) for outcome in outcomes]
        vectors = finish(plan, prepared.rows, outputs)
        return Embedded(vectors, prepared.token_count, prepared.truncated)

    async def _prepare(
        self, content: Content, options: EmbedOptions, job_options: JobOptions, timings: Timings
    ) -> tuple[Prepared, float]:
        """Prepare an item and take a place in the queue for each of its rows.

        Returns it, and the time it was prepared.
        """
        accepted = time.perf_counter()
        await self._staging.acquire(job_options.peer, job_options.caller)
        try:
            # Not before: of all the items that wait, each would hold its own copy.
            content = self.modality.with_prompt(content, options.input_type, options.prompt)
            prepare = partial(
                self.modality.prepare, content, refuse_truncation=options.refuse_truncation
            )
            if self.modality.is_quick(content):
                prepared = prepare()
            elif self._decoders and self._pickled:
                prepared = await self._decoders.prepare(
                    self._pickled,
                    content,
                    refuse_truncation=options.refuse_truncation,
                    deadline=job_options.deadline,
                )
            else:
                loop = asyncio.get_running_loop()
                prepared = await loop.run_in_executor(self._threads, prepare)
            queued = time.perf_counter()
            timings.prepare_s = queued - accepted
            await self.graph.queue_slots.acquire(len(prepared.rows))
        finally:
            self._staging.release()
        return prepared, queued

    async def _compute(
        self, prepared: Prepared, output: str, job_options: JobOptions
    ) -> list[JobOutcome]:
        """Run an item's rows, each a job of its own: they may land in several batches."""
        runs = [self.graph.run(to_job(row, (output,)), job_options) for row in prepared.rows]
        # A task for each costs more than the wait for the only one.
        if len(runs) == 1:
            return [await runs[0]]
        tasks = [asyncio.ensure_future(run) for run in runs]
        try:
            return await asyncio.gather(*tasks)
        finally:
            # One that misses its deadline makes the others useless. They are let
            # go here, since their errors hold this frame.
            while tasks:
                tasks.pop().cancel()


def to_job(row: Row, outputs: tuple[str, ...]) -> Job:
    """Return the job that computes one row."""
    feeds = {name: feed[np.newaxis] for name, feed in row.feeds.items()}
    return Job(feeds, rows=1, positions=row.positions, outputs=outputs)


def _row_of(outcome: JobOutcome, output: str) -> npt.NDArray[np.float32]:
    """Return the one row of an output. Raises ComputeFailed if there is none that is usable."""
    if isinstance(outcome.outputs, Exception):
        raise ComputeFailed(
            Reason.COMPUTE_FAILED, f"the model failed on this item: {outcome.outputs}"
        ) from outcome.outputs
    values: npt.NDArray[np.float32] = outcome.outputs[output][0].astype(np.float32, copy=False)
    if not np.isfinite(values).all():
        raise ComputeFailed(Reason.NOT_FINITE, "the model gave numbers that are not finite")
    return values
