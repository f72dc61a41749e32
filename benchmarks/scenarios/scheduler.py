"""Scheduler overhead: CPU time an item while many wait, without graph or server."""

import time
from itertools import cycle
from random import Random
from statistics import median

from benchmarks.context import BenchContext
from vecserve_server.scheduling.cost_model import CostModel, Sample
from vecserve_server.scheduling.options import BatchLimits, JobOptions
from vecserve_server.scheduling.queue import Entry, Queue
from vecserve_server.scheduling.scheduler import Scheduler

_WAITING = 10_000
_TAKEN = 20_000
_LIMIT_US = 20.0
_TIMES = 5


def overhead(context: BenchContext) -> None:
    """10,000 jobs queued, of one caller and of a hundred; each that leaves is replaced."""
    for callers in (1, 100):
        us = median(_us_an_item(callers) for _ in range(_TIMES))
        context.check(
            f"scheduler, 10,000 queued, {callers} callers: an item", us, "<=", _LIMIT_US, "us"
        )


def _us_an_item(callers: int) -> float:
    """Return the microseconds of CPU to submit an item, and to take it out in a batch, together."""
    random = Random(1)
    # About MiniLM's on one core.
    cost = CostModel([Sample(1, 16, 0.005), Sample(8, 16, 0.03), Sample(1, 128, 0.02)], 1.5)
    queue: Queue[None] = Queue("graph", BatchLimits(32, 2048), cost)
    scheduler: Scheduler[None] = Scheduler(2)
    scheduler.add(queue)
    jobs = [
        (JobOptions(random.randrange(callers)), random.randint(3, 209))
        for _ in range(_WAITING + _TAKEN)
    ]
    coming = cycle(jobs)
    now = 0.0

    def submit() -> None:
        terms, length = next(coming)
        scheduler.submit(Entry(queue, 1, length, None, terms, None), now)

    for _ in range(_WAITING):
        submit()
    taken = 0
    began = time.thread_time()
    while taken < _TAKEN:
        batch = scheduler.next_batch(now)
        assert batch
        seconds = cost.seconds(batch.rows, batch.longest)
        now += seconds
        scheduler.finished(batch, seconds, now)
        for _ in batch.entries:
            submit()
        taken += batch.rows
    return (time.thread_time() - began) / taken * 1e6
