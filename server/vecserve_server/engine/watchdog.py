"""Watchdog of runs: ends those that take too long, and knows those that cannot be ended.

ONNX Runtime looks at a run's terminate flag before every node, in the bodies of Loop, If
and Scan too. It does not interrupt a node: one product of two huge matrices goes on to its
end, and until then its thread is stuck.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import onnxruntime as ort

_log = logging.getLogger(__name__)

# How often runs are looked at, in seconds.
_LOOK_S = 0.25
# How long a run may take to reach its next node once it was told to end, in seconds.
_END_S = 1.0


class RunTerminated(Exception):
    """A run was ended early: nobody waits for it any more."""


class RunTimedOut(RunTerminated):
    """A run was ended early: it took longer than it may."""


class RunLimit:
    """Bound on the runs of one batch of `graph`: `max_s` each, none once they are abandoned.

    `on_stuck` is called, on the watchdog's thread, with this limit when a run does not end.
    Without it the runs are trials of a graph that is being loaded.
    """

    def __init__(
        self, graph: str, max_s: float, on_stuck: "Callable[[RunLimit], object] | None" = None
    ) -> None:
        self.graph = graph
        self.max_s = max_s
        self.on_stuck = on_stuck
        self.abandoned = False
        self.run: _Run | None = None

    @property
    def model(self) -> str:
        """The model that the graph is of: `graph` is `<model>/<version>/...`."""
        return self.graph.partition("/")[0]

    @property
    def timed_out(self) -> RunTimedOut:
        """What is raised when a run took too long."""
        return RunTimedOut(f"it did not end within {self.max_s:g} s, the bound of a batch")

    def abandon(self) -> None:
        """End the run that goes on, and those to come: nobody waits for them."""
        # In this order: a run that begins meanwhile sets itself first, and then looks here.
        self.abandoned = True
        if run := self.run:
            run.options.terminate = True


@dataclass(slots=True, eq=False)
class _Run:
    """One run of a session. Times are of time.perf_counter()."""

    limit: RunLimit
    options: ort.RunOptions = field(default_factory=ort.RunOptions)
    started_s: float = field(default_factory=time.perf_counter)
    timed_out: bool = False
    stuck: bool = False


class Watchdog:
    """Watches all runs of the process, from a thread of its own. Thread-safe."""

    def __init__(
        self, trial_s: float, cores: int, changed: Callable[[], object] = lambda: None
    ) -> None:
        """Let the runs of a load take `trial_s`.

        `changed` is called, on any thread, when `stuck_models` or `is_blocked` may have.
        """
        self.trial_s = trial_s
        self._cores = cores
        self._changed = changed
        self._runs: set[_Run] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._blocked = False
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    @contextmanager
    def watch(self, limit: RunLimit) -> Iterator[ort.RunOptions]:
        """Bound the run that goes on inside, with the options given.

        Raises RunTimedOut, RunTerminated in the place of the run's own error.
        """
        run = _Run(limit)
        limit.run = run
        with self._lock:
            self._runs.add(run)
        try:
            if self._is_unwanted(limit):
                raise RunTerminated("nobody waits for it any more")
            yield run.options
        except Exception as error:
            if run.timed_out:
                raise limit.timed_out from error
            if self._is_unwanted(limit):
                raise RunTerminated("nobody waits for it any more") from error
            raise
        finally:
            with self._lock:
                self._runs.remove(run)
            limit.run = None
            if run.stuck:
                _log.warning(
                    "%s: the run that could not be ended has ended, after %.0f s",
                    limit.graph,
                    time.perf_counter() - run.started_s,
                )
                self._changed()

    def oldest_s(self) -> float:
        """Return for how long the longest run has been going on, in seconds; 0 without one."""
        now_s = time.perf_counter()
        return max((now_s - run.started_s for run in self._snapshot()), default=0.0)

    def stuck_models(self, *, loading: bool = False) -> set[str]:
        """Return the models that have a run that does not end, in service or while loading."""
        return {run.limit.model for run in self._stuck(loading)}

    def is_blocked(self) -> bool:
        """Whether runs that do not end have every core, or one has had it for twice its bound.

        Such a core is lost until then, if not for good.
        """
        now_s = time.perf_counter()
        stuck = self._stuck(loading=False)
        return len(stuck) >= self._cores or any(
            now_s - run.started_s > 2 * run.limit.max_s for run in stuck
        )

    def close(self) -> None:
        """End every run that goes on or is still to come."""
        self._closed.set()
        for run in self._snapshot():
            run.options.terminate = True

    def _is_unwanted(self, limit: RunLimit) -> bool:
        return limit.abandoned or self._closed.is_set()

    def _stuck(self, loading: bool) -> list[_Run]:
        return [
            run for run in self._snapshot() if run.stuck and (run.limit.on_stuck is None) is loading
        ]

    def _snapshot(self) -> tuple[_Run, ...]:
        with self._lock:
            return tuple(self._runs)

    def _watch(self) -> None:
        while not self._closed.wait(_LOOK_S):
            now_s = time.perf_counter()
            for run in self._snapshot():
                self._look_at(run, now_s - run.started_s)
            if (blocked := self.is_blocked()) is not self._blocked:
                self._blocked = blocked
                self._changed()

    def _look_at(self, run: _Run, took_s: float) -> None:
        limit = run.limit
        if took_s > limit.max_s and not run.timed_out and not limit.abandoned:
            run.timed_out = True
            run.options.terminate = True
            _log.warning(
                "%s: a run is ended after %.1f s: a batch may take %g s",
                limit.graph,
                took_s,
                limit.max_s,
            )
        if took_s > limit.max_s + _END_S and not run.stuck:
            run.stuck = True
            _log.error(
                "%s: a run cannot be ended: it is inside one operator of the graph, and its "
                "thread computes nothing else until that is done",
                limit.graph,
            )
            self._changed()
            if limit.on_stuck:
                limit.on_stuck(limit)
