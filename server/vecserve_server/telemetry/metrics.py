"""Prometheus metrics: what was answered, how long it took, how full the batches were."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from vecserve_server.scheduling.runner import BatchReport
from vecserve_server.telemetry.timings import Timings

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The server's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._items = Counter(
            "vecserve_items",
            "Items answered, by google.rpc code.",
            ["model", "code"],
            registry=self.registry,
        )
        self._calls = Counter(
            "vecserve_calls",
            "Calls of both protocols ended, streams among them, by google.rpc code and reason.",
            ["method", "code", "reason"],
            registry=self.registry,
        )
        self._stages = {
            stage: Histogram(
                f"vecserve_item_{stage}_seconds",
                help_,
                ["model"],
                buckets=_SECONDS,
                registry=self.registry,
            )
            for stage, help_ in {
                "prepare": "From accepted to prepared, an item.",
                "queue": "From prepared to the start of its batch, an item.",
                "compute": "The batches an item rode in.",
            }.items()
        }
        self._batch_rows = Histogram(
            "vecserve_batch_rows",
            "Rows a batch.",
            ["graph"],
            buckets=_ROWS,
            registry=self.registry,
        )
        self._positions = Counter(
            "vecserve_positions",
            "Positions computed, by whether they held input or padding.",
            ["graph", "kind"],
            registry=self.registry,
        )
        self._timed_out = Counter(
            "vecserve_timed_out_batches",
            "Batches ended because they ran longer than they may.",
            ["graph"],
            registry=self.registry,
        )
        self._oldest_batch = Gauge(
            "vecserve_oldest_batch_seconds",
            "Age of the batch that has been running longest, 0 if none is running.",
            registry=self.registry,
        )
        self._unanswered = Gauge(
            "vecserve_unanswered_items",
            "Items accepted and not answered yet.",
            ["graph"],
            registry=self.registry,
        )

    def call_ended(self, method: str, code: str, reason: str) -> None:
        """Count one call, once; `reason` is empty where the server gave none."""
        self._calls.labels(method, code, reason).inc()

    def answered(self, model: str, code: str, timings: Timings) -> None:
        """Count one answered item."""
        self._items.labels(model, code).inc()
        if timings.prepare_s is not None:
            self._stages["prepare"].labels(model).observe(timings.prepare_s)
        if timings.queue_s is not None:
            self._stages["queue"].labels(model).observe(timings.queue_s)
        if timings.compute_s is not None:
            self._stages["compute"].labels(model).observe(timings.compute_s)

    def batch_ran(self, report: BatchReport) -> None:
        """Count one batch."""
        self._batch_rows.labels(report.graph).observe(report.rows)
        self._positions.labels(report.graph, "input").inc(report.positions)
        padding = report.padded_positions - report.positions
        self._positions.labels(report.graph, "padding").inc(padding)
        if report.timed_out:
            self._timed_out.labels(report.graph).inc()

    def watch_oldest_batch(self, age_s: Callable[[], float]) -> None:
        """Report `age_s()` as the age of the oldest batch at every scrape."""
        self._oldest_batch.set_function(age_s)

    def watch_unanswered(self, graph: str, count: Callable[[], float]) -> None:
        """Report `count()` as the graph's unanswered items at every scrape."""
        self._unanswered.labels(graph).set_function(count)

    def forget(self, graph: str) -> None:
        """Report nothing more of a graph that is unloaded."""
        self._unanswered.remove(graph)
