"""Runs `prepare` in worker threads, several cheap items to a trip."""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Generic, TypeVar

Job = TypeVar("Job")
Done = TypeVar("Done")


class Preparer(Generic[Job, Done]):
    """Prepares items of one tower, at most `max_hops` trips to the threads at a time.

    Items that come while all trips are under way share the next one, up to
    `items_per_hop`: tokenizing a sentence takes less than handing it over.
    `prepare` is called in a worker thread; what it raises reaches the item's
    caller only.
    """

    def __init__(
        self,
        prepare: Callable[[Job], Done],
        threads: Executor,
        *,
        items_per_hop: int,
        max_hops: int,
    ) -> None:
        self._prepare = prepare
        self._threads = threads
        self._items_per_hop = items_per_hop
        self._free_hops = max_hops
        self._waiting: deque[tuple[Job, asyncio.Future[Done]]] = deque()

    async def __call__(self, job: Job) -> Done:
        """Prepare one item; raise what its preparation raises."""
        future: asyncio.Future[Done] = asyncio.get_running_loop().create_future()
        self._waiting.append((job, future))
        self._start_hops()
        return await future

    def _start_hops(self) -> None:
        loop = asyncio.get_running_loop()
        while self._free_hops:
            hop: list[tuple[Job, asyncio.Future[Done]]] = []
            while self._waiting and len(hop) < self._items_per_hop:
                job, future = self._waiting.popleft()
                if not future.cancelled():
                    hop.append((job, future))
            if not hop:
                return
            self._free_hops -= 1
            self._threads.submit(self._work, loop, hop)

    def _work(
        self, loop: asyncio.AbstractEventLoop, hop: list[tuple[Job, asyncio.Future[Done]]]
    ) -> None:
        outcomes: list[Done | Exception] = []
        for job, _ in hop:
            try:
                outcomes.append(self._prepare(job))
            except Exception as error:
                outcomes.append(error)
        futures = [future for _, future in hop]
        loop.call_soon_threadsafe(self._finish, futures, outcomes)

    def _finish(
        self, futures: list[asyncio.Future[Done]], outcomes: list[Done | Exception]
    ) -> None:
        self._free_hops += 1
        self._start_hops()
        for future, outcome in zip(futures, outcomes, strict=True):
            if future.cancelled():
                continue
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
