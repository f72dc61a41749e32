"""One run of LoadGen, and what it wrote of it."""

import json
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import mlperf_loadgen
import numpy as np

from benchmarks.mlperf.ledger import Desk, Sample, Vector
from benchmarks.mlperf.sut import Ask

_GLANCE_S = 0.2
_KEPT = ("result_", "early_stopping_", "effective_", "loadgen_version", "num_")


class RunError(Exception):
    """A run has no result; the message says why."""


def run(
    asking: AbstractContextManager[Ask],
    settings: Any,
    items: int,
    folder: Path,
    patience_s: float,
    show: Callable[[Desk], None],
) -> Desk:
    """Run LoadGen with its `settings` over `items` items; its logs go to `folder`.

    Returns the account of what was issued and answered. Raises RunError if a call
    fails, or if nothing is answered for `patience_s` seconds; LoadGen then still waits
    in a thread, until the process ends by `os._exit`.
    """
    desk = Desk()
    folder.mkdir(parents=True, exist_ok=True)
    log = mlperf_loadgen.LogSettings()
    log.log_output.outdir = str(folder)
    log.enable_trace = False

    with asking as ask:

        def issue(queries: Sequence[Any]) -> None:
            samples = [Sample(query.id, query.index) for query in queries]
            try:
                desk.take(samples)
                ask(samples, desk)
            except BaseException as error:  # LoadGen would not survive it
                desk.fail(error)

        sut = mlperf_loadgen.ConstructSUT(issue, lambda: None)
        # The items are in memory already.
        library = mlperf_loadgen.ConstructQSL(items, items, lambda _: None, lambda _: None)
        start = mlperf_loadgen.StartTestWithLogSettings
        # LoadGen hears no Ctrl-C, and cannot be stopped: a failed run is left behind.
        running = threading.Thread(target=start, args=(sut, library, settings, log), daemon=True)
        running.start()
        _watch(running, desk, patience_s, show)
    if desk.failure is not None:
        raise RunError(f"{type(desk.failure).__name__}: {desk.failure}") from desk.failure
    mlperf_loadgen.DestroyQSL(library)
    mlperf_loadgen.DestroySUT(sut)
    return desk


def _watch(
    running: threading.Thread, desk: Desk, patience_s: float, show: Callable[[Desk], None]
) -> None:
    answered, since = 0, time.monotonic()
    while running.is_alive() and desk.failure is None:
        show(desk)
        running.join(_GLANCE_S)
        if desk.answered > answered or desk.answered == desk.issued:
            answered, since = desk.answered, time.monotonic()
        elif time.monotonic() > since + patience_s:
            raise RunError(
                f"nothing was answered for {patience_s:g} s, and "
                f"{desk.issued - desk.answered} of {desk.issued} samples are open"
            )


def figures(folder: Path) -> dict[str, Any]:
    """Return what a run's detail log says of its settings and its result.

    Raises RunError if LoadGen noted an error of its own.
    """
    found: dict[str, Any] = {}
    for line in (folder / "mlperf_log_detail.txt").read_text().splitlines():
        entry = json.loads(line.removeprefix(":::MLLOG "))
        if entry["metadata"]["is_error"]:
            raise RunError(f"LoadGen: {entry['key']}: {entry['value']}")
        if entry["key"].startswith(_KEPT):
            found[entry["key"]] = entry["value"]
    return found


def verdict(folder: Path) -> str:
    """Return LoadGen's own words on whether a run is valid, and why, from its summary."""
    summary = (folder / "mlperf_log_summary.txt").read_text()
    _, found, rest = summary.partition("Result is : ")
    if not found:
        raise RunError(f"LoadGen's summary has no result:\n{summary}")
    return rest.partition("\n=====")[0].strip()


def answers(folder: Path) -> list[tuple[int, Vector]]:
    """Return what LoadGen logged of a run for accuracy: an item's index and vector, each answer."""
    logged = json.loads((folder / "mlperf_log_accuracy.json").read_text())
    return [
        (entry["qsl_idx"], np.frombuffer(bytes.fromhex(entry["data"]), "<f4")) for entry in logged
    ]
