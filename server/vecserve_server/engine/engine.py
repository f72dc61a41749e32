"""Batch execution: jobs to a batch and back, and the rule that a bad job fails alone."""

import threading
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vecserve_server.engine.padding import GraphSpec
from vecserve_server.engine.session import Session
from vecserve_server.engine.watchdog import RunLimit, RunTerminated, RunTimedOut, Watchdog

Array = npt.NDArray[np.generic]

# How often one who waits for an instance looks whether it is still worth it, in seconds.
_LOOK_S = 0.25


@dataclass(frozen=True, slots=True)
class Job:
    """Rows of one caller that run together: one typed item, or one tensor request.

    Every feed has the batch axis first, of length `rows`. `positions` is the
    length of a row in the unit of the batch budget: tokens for text, else 1.
    """

    feeds: Mapping[str, Array]
    rows: int
    positions: int
    outputs: tuple[str, ...]


JobOutputs = dict[str, Array]


class Engine:
    """Runs batches of jobs on one graph. Thread-safe."""

    def __init__(
        self,
        name: str,
        session: Session,
        spec: GraphSpec,
        watchdog: Watchdog,
        instances: int | None = None,
    ) -> None:
        """Bound how many batches run at a time by `instances`, if there is a bound."""
        self._name = name
        self._session = session
        self._spec = spec
        self._watchdog = watchdog
        self._instances = threading.Semaphore(instances) if instances else None

    def key(self, job: Job) -> Hashable:
        """Return what two jobs must have in common to share a batch."""
        if not self._spec.batches:
            return object()
        pads = self._spec.pads
        # A row whose mask is empty attends to whatever there is, padding too.
        if pads and not job.feeds[self._spec.mask].any(axis=1).all():
            pads = {}
        return tuple(
            (name, feed.shape[2 if name in pads else 1 :])
            for name, feed in sorted(job.feeds.items())
        )

    def run(
        self, jobs: Sequence[Job], *, all_cores: bool = False, limit: RunLimit | None = None
    ) -> list[JobOutputs | Exception]:
        """Run jobs as one batch and return, a job each, its outputs or what went wrong.

        A `all_cores` run takes all cores. If the batch fails, every job is run alone, so that
        only the one at fault gets the error; not if `limit`, by default that of a trial, ended
        it: that is RunTerminated for each.
        """
        try:
            return list(self.run_together(jobs, all_cores, limit))
        except RunTerminated as error:
            return [error] * len(jobs)
        except Exception as error:
            if len(jobs) == 1:
                return [error]
        return [self.run([job], all_cores=all_cores, limit=limit)[0] for job in jobs]

    def run_together(
        self, jobs: Sequence[Job], all_cores: bool = False, limit: RunLimit | None = None
    ) -> list[JobOutputs]:
        """Run jobs as one batch. Raises RunTerminated, and what ONNX Runtime raises."""
        limit = limit or RunLimit(self._name, self._watchdog.trial_s)
        names = sorted({name for job in jobs for name in job.outputs})
        total = sum(job.rows for job in jobs)
        rows = self._session.full_batch(total)
        with (
            self._instance(limit),
            self._joined(jobs, rows) as feeds,
            self._watchdog.watch(limit) as options,
        ):
            found = self._session.run(feeds, names, all_cores=all_cores, options=options)
        results = dict(zip(names, found, strict=True))
        if len(jobs) == 1 and rows == total:
            return [{name: results[name] for name in jobs[0].outputs}]
        if any(len(values) != rows for values in results.values()):
            raise ValueError(f"the graph gave another number of rows than the {rows} it got")
        answers = []
        start = 0
        for job in jobs:
            own = slice(start, start + job.rows)
            start += job.rows
            answers.append({name: self._cut(name, results[name][own], job) for name in job.outputs})
        return answers

    @contextmanager
    def _joined(self, jobs: Sequence[Job], rows: int) -> Iterator[Mapping[str, Array]]:
        """Lend the feeds of a batch of `rows`."""
        if len(jobs) == 1 and jobs[0].rows == rows:
            yield jobs[0].feeds
            return
        feeds = {name: [job.feeds[name] for job in jobs] for name in jobs[0].feeds}
        pads = self._spec.pads
        wanted = {
            name: ((rows, *_longest(each, name in pads)), each[0].dtype)
            for name, each in feeds.items()
        }
        with self._session.arrays(wanted) as joined:
            for name, each in feeds.items():
                _join(each, pads.get(name), joined[name])
            yield joined

    @contextmanager
    def _instance(self, limit: RunLimit) -> Iterator[None]:
        """Take one of the instances, as soon as one is free.

        Raises RunTerminated if nobody waits for that any more, RunTimedOut if one is taken by a
        run that does not end.
        """
        if not self._instances:
            yield
            return
        while not self._instances.acquire(timeout=_LOOK_S):
            if limit.abandoned:
                raise RunTerminated("nobody waits for it any more")
            if limit.model in self._watchdog.stuck_models():
                raise RunTimedOut("it waited for another run of the model, which does not end")
        try:
            yield
        finally:
            self._instances.release()

    def _cut(self, name: str, values: Array, job: Job) -> Array:
        """Cut off the padding that other jobs' lengths added."""
        return values[:, : job.positions] if name in self._spec.padded_outputs else values


def _longest(feeds: Sequence[Array], padded: bool) -> tuple[int, ...]:
    """Return the shape of a row, of the longest one if rows are padded along axis 1."""
    shape = feeds[0].shape[1:]
    return (max(feed.shape[1] for feed in feeds), *shape[1:]) if padded else shape


def _join(feeds: Sequence[Array], pad: int | None, joined: Array) -> None:
    """Join feeds along the batch axis, padding axis 1, and fill up with copies of the first row."""
    start = 0
    for feed in feeds:
        rows = joined[start : start + len(feed)]
        if pad is None or feed.shape[1] == joined.shape[1]:
            rows[...] = feed
        else:
            rows[:, : feed.shape[1]] = feed
            rows[:, feed.shape[1] :] = pad
        start += len(feed)
    joined[start:] = joined[:1]
