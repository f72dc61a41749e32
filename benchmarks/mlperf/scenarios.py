"""One model through the three scenarios."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlperf_loadgen

from benchmarks.mlperf.accuracy import compare
from benchmarks.mlperf.ledger import Desk, Vector
from benchmarks.mlperf.loadgen import RunError, answers, figures, run, verdict
from benchmarks.mlperf.sut import as_they_come, on_one_stream, one_by_one

ASKING = {"SingleStream": one_by_one, "Offline": on_one_stream, "Server": as_they_come}

EARLY_STOPPING_QUERIES = 64
"""The fewest with which LoadGen estimates SingleStream's 90th percentile."""

# LoadGen draws up SingleStream's queries beforehand, and ends when they run out.
_SHORTEST_LATENCY_NS = 200_000
_FIRST_GUESS_QPS = 10.0
_GUESSES = 6


@dataclass(frozen=True, slots=True)
class Options:
    """How long and how hard; a `target_qps` of None is `target_share` of Offline's result."""

    seconds: float
    server_queries: int
    target_share: float
    target_qps: float | None
    latency_bound_ms: float
    patience_s: float


@dataclass(frozen=True, slots=True)
class Bench:
    """A model that a server has, the items to ask for and the vectors to expect.

    RunErrors of its runs name the scenario.
    """

    address: str
    model: str
    items: Sequence[object]
    expected: Vector
    options: Options
    logs: Path
    show: Callable[[str], None]

    def scenarios(self) -> Iterator[dict[str, Any]]:
        """Run all three, and yield what each gave; Server's rate comes from Offline's result."""
        yield self._scenario(
            "SingleStream",
            min_query_count=EARLY_STOPPING_QUERIES,
            single_stream_expected_latency_ns=_SHORTEST_LATENCY_NS,
        )
        # LoadGen sizes Offline's one query by a rate: tell it more until the query lasts.
        expected = _FIRST_GUESS_QPS
        for _ in range(_GUESSES):
            offline = self._scenario("Offline", min_query_count=1, offline_expected_qps=expected)
            if offline["loadgen"]["result_min_duration_met"]:
                break
            expected = 1.1 * offline["loadgen"]["result_samples_per_second"]
        yield offline
        reached = offline["loadgen"]["result_samples_per_second"]
        yield self._scenario(
            "Server",
            min_query_count=self.options.server_queries,
            server_target_qps=self.options.target_qps or self.options.target_share * reached,
            server_target_latency_ns=int(1e6 * self.options.latency_bound_ms),
        )

    def _scenario(self, name: str, **settings: Any) -> dict[str, Any]:
        try:
            desk, logs = self._run(name, "AccuracyOnly", settings)
            accuracy = compare(answers(logs), self.expected)
            if desk.issued != accuracy.answers:
                raise RunError(
                    f"{desk.issued} were issued, {accuracy.answers} are in LoadGen's log"
                )
            desk, logs = self._run(name, "PerformanceOnly", settings)
            found = figures(logs)
            samples = found["result_query_count"] * found["effective_samples_per_query"]
            if not samples == desk.issued == desk.answered:
                raise RunError(
                    f"LoadGen counts {samples} samples; {desk.issued} were issued, "
                    f"{desk.answered} answered"
                )
        except RunError as error:
            raise RunError(f"{self.model}, {name}: {error}") from error
        return {
            "model": self.model,
            "scenario": name,
            "validity": found["result_validity"],
            "verdict": verdict(logs),
            "issued": desk.issued,
            "answered": desk.answered,
            "accuracy": dataclasses.asdict(accuracy),
            "loadgen": found,
        }

    def _run(self, name: str, mode: str, settings: dict[str, Any]) -> tuple[Desk, Path]:
        asked = mlperf_loadgen.TestSettings()
        asked.scenario = getattr(mlperf_loadgen.TestScenario, name)
        asked.mode = getattr(mlperf_loadgen.TestMode, mode)
        asked.min_duration_ms = int(1000 * self.options.seconds)
        for key, value in settings.items():
            setattr(asked, key, value)
        logs = self.logs / self.model / name / mode
        asking = ASKING[name](self.address, self.model, self.items)

        def show(desk: Desk) -> None:
            self.show(f"{self.model}, {name}, {mode}: {desk.answered} of {desk.issued} answered")

        desk = run(asking, asked, len(self.items), logs, self.options.patience_s, show)
        return desk, logs
