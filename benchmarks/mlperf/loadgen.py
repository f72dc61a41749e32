"""One run of LoadGen, and the logs that it wrote."""

import json
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import mlperf_loadgen
import numpy as np

from benchmarks.mlperf.ledger import Ledger, Sample, Vector
from benchmarks.mlperf.sut import Issue

_POLL_S = 0.2
_LOGGED_KEYS = ("result_", "early_stopping_", "effective_", "loadgen_version", "num_")


class RunError(Exception):
    """A run has no result; the message says why."""


def run(
    sut: AbstractContextManager[Issue],
    settings: Any,
    items: int,
    folder: Path,
    stall_timeout_s: float,
    show: Callable[[Ledger], None],
) -> Ledger:
    """Run LoadGen with its `settings` over `items` items; its logs go to `folder`.

    Returns the ledger of samples issued and answered. Raises RunError if a call
    fails, or if nothing is answered for `stall_timeout_s` seconds; LoadGen then still waits
    in a thread, until the process ends by `os._exit`.
    """
    ledger = Ledger()
    folder.mkdir(parents=True, exist_ok=True)
    log = mlperf_loadgen.LogSettings()
    log.log_output.outdir = str(folder)
    log.enable_trace = False

    with sut as issue:

        def issue_queries(queries: Sequence[Any]) -> None:
            samples = [Sample(query.id, query.index) for query in queries]
            try:
                ledger.issue(samples)
                issue(samples, ledger)
            except BaseException as error:  # LoadGen's C++ would not survive it
                ledger.fail(error)

        handle = mlperf_loadgen.ConstructSUT(issue_queries, lambda: None)
        # The items are in memory already.
        library = mlperf_loadgen.ConstructQSL(items, items, lambda _: None, lambda _: None)
        start = mlperf_loadgen.StartTestWithLogSettings
        # LoadGen ignores Ctrl-C and cannot be stopped: after a failure its thread is left running.
        running = threading.Thread(target=start, args=(handle, library, settings, log), daemon=True)
        running.start()
        _watch(running, ledger, stall_timeout_s, show)
    if ledger.failure is not None:
        raise RunError(f"{type(ledger.failure).__name__}: {ledger.failure}") from ledger.failure
    mlperf_loadgen.DestroyQSL(library)
    mlperf_loadgen.DestroySUT(handle)
    return ledger


def _watch(
    running: threading.Thread,
    ledger: Ledger,
    stall_timeout_s: float,
    show: Callable[[Ledger], None],
) -> None:
    answered, since = 0, time.monotonic()
    while running.is_alive() and ledger.failure is None:
        show(ledger)
        running.join(_POLL_S)
        if ledger.answered > answered or ledger.answered == ledger.issued:
            answered, since = ledger.answered, time.monotonic()
        elif time.monotonic() > since + stall_timeout_s:
            raise RunError(
                f"nothing was answered for {stall_timeout_s:g} s, and "
                f"{ledger.issued - ledger.answered} of {ledger.issued} samples are open"
            )


def figures(folder: Path) -> dict[str, Any]:
    """Return the settings and results of a run, from its detail log.

    Raises RunError if LoadGen noted an error of its own.
    """
    found: dict[str, Any] = {}
    for line in (folder / "mlperf_log_detail.txt").read_text().splitlines():
        entry = json.loads(line.removeprefix(":::MLLOG "))
        if entry["metadata"]["is_error"]:
            raise RunError(f"LoadGen: {entry['key']}: {entry['value']}")
        if entry["key"].startswith(_LOGGED_KEYS):
            found[entry["key"]] = entry["value"]
    return found


def verdict(folder: Path) -> str:
    """Return whether a run is valid, and why not, in the words of LoadGen's summary."""
    summary = (folder / "mlperf_log_summary.txt").read_text()
    _, found, rest = summary.partition("Result is : ")
    if not found:
        raise RunError(f"LoadGen's summary has no result:\n{summary}")
    return rest.partition("\n=====")[0].strip()


def answers(folder: Path) -> list[tuple[int, Vector]]:
    """Return the answers that LoadGen logged in a run for accuracy, as (item's index, vector)."""
    logged = json.loads((folder / "mlperf_log_accuracy.json").read_text())
    return [
        (entry["qsl_idx"], np.frombuffer(bytes.fromhex(entry["data"]), "<f4")) for entry in logged
    ]
