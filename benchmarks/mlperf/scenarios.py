"""LoadGen's scenarios for one model: SingleStream, Offline and Server."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlperf_loadgen

from benchmarks.mlperf.accuracy import compare
from benchmarks.mlperf.ledger import Ledger, Vector
from benchmarks.mlperf.loadgen import RunError, answers, figures, run, verdict
from benchmarks.mlperf.sut import offline, server, single_stream

SYSTEMS = {"SingleStream": single_stream, "Offline": offline, "Server": server}

EARLY_STOPPING_QUERIES = 64
"""Least number of queries for LoadGen's estimate of SingleStream's 90th percentile."""

# LoadGen draws up SingleStream's queries beforehand, and ends when they run out.
_SHORTEST_LATENCY_NS = 200_000
_FIRST_GUESS_QPS = 10.0
_GUESSES = 6


@dataclass(frozen=True, slots=True)
class Options:
    """Durations and rates; a `target_qps` of None is `target_share` of Offline's result."""

    seconds: float
    server_queries: int
    target_share: float
    target_qps: float | None
    latency_bound_ms: float
    stall_timeout_s: float


@dataclass(frozen=True, slots=True)
class ScenarioRunner:
    """A model of the server at `address`, the items to send and the vectors to expect.

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
            found = self._scenario("Offline", min_query_count=1, offline_expected_qps=expected)
            if found["loadgen"]["result_min_duration_met"]:
                break
            expected = 1.1 * found["loadgen"]["result_samples_per_second"]
        yield found
        reached = found["loadgen"]["result_samples_per_second"]
        yield self._scenario(
            "Server",
            min_query_count=self.options.server_queries,
            server_target_qps=self.options.target_qps or self.options.target_share * reached,
            server_target_latency_ns=int(1e6 * self.options.latency_bound_ms),
        )

    def _scenario(self, name: str, **settings: Any) -> dict[str, Any]:
        try:
            ledger, logs = self._run(name, "AccuracyOnly", settings)
            accuracy = compare(answers(logs), self.expected)
            if ledger.issued != accuracy.answers:
                raise RunError(
                    f"{ledger.issued} were issued, {accuracy.answers} are in LoadGen's log"
                )
            ledger, logs = self._run(name, "PerformanceOnly", settings)
            found = figures(logs)
            samples = found["result_query_count"] * found["effective_samples_per_query"]
            if not samples == ledger.issued == ledger.answered:
                raise RunError(
                    f"LoadGen counts {samples} samples; {ledger.issued} were issued, "
                    f"{ledger.answered} answered"
                )
        except RunError as error:
            raise RunError(f"{self.model}, {name}: {error}") from error
        return {
            "model": self.model,
            "scenario": name,
            "validity": found["result_validity"],
            "verdict": verdict(logs),
            "issued": ledger.issued,
            "answered": ledger.answered,
            "accuracy": dataclasses.asdict(accuracy),
            "loadgen": found,
        }

    def _run(self, name: str, mode: str, settings: dict[str, Any]) -> tuple[Ledger, Path]:
        test = mlperf_loadgen.TestSettings()
        test.scenario = getattr(mlperf_loadgen.TestScenario, name)
        test.mode = getattr(mlperf_loadgen.TestMode, mode)
        test.min_duration_ms = int(1000 * self.options.seconds)
        for key, value in settings.items():
            setattr(test, key, value)
        logs = self.logs / self.model / name / mode
        sut = SYSTEMS[name](self.address, self.model, self.items)

        def show(ledger: Ledger) -> None:
            self.show(
                f"{self.model}, {name}, {mode}: {ledger.answered} of {ledger.issued} answered"
            )

        ledger = run(sut, test, len(self.items), logs, self.options.stall_timeout_s, show)
        return ledger, logs
