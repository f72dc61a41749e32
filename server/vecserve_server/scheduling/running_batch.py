"""Batch on a compute thread: who still waits for it, and until when."""

import asyncio
import math
import time
from collections.abc import Sequence
from typing import Any

from vecserve_server.engine.watchdog import RunLimit


class RunningBatch:
    """Ends a batch for which nobody waits any more. Lives on one event loop.

    A job's deadline, of time.perf_counter(), resolves its outcome to None.
    """

    def __init__(
        self, limit: RunLimit, outcomes: Sequence["asyncio.Future[Any]"], deadlines: Sequence[float]
    ) -> None:
        self._limit = limit
        self._waiting = len(outcomes)
        # The earliest last.
        self._due = sorted(
            (
                (deadline_s, outcome)
                for deadline_s, outcome in zip(deadlines, outcomes, strict=True)
                if deadline_s < math.inf
            ),
            key=lambda due: -due[0],
        )
        self._timer: asyncio.TimerHandle | None = None
        self._wait_for_next_deadline()

    def leave(self) -> None:
        """Take note that one job's caller waits no longer."""
        self._waiting -= 1
        if not self._waiting:
            self._limit.abandon()

    def ended(self) -> None:
        """Let go of it: its outcomes are known."""
        if self._timer:
            self._timer.cancel()

    def _wait_for_next_deadline(self) -> None:
        if self._due:
            delay_s = max(self._due[-1][0] - time.perf_counter(), 0.0)
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._expire)

    def _expire(self) -> None:
        now_s = time.perf_counter()
        while self._due and self._due[-1][0] <= now_s:
            _, outcome = self._due.pop()
            if not outcome.done():
                outcome.set_result(None)
                self.leave()
        self._wait_for_next_deadline()
