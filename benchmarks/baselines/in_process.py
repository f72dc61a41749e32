"""ONNX Runtime in a process of its own, without a server: the `in-process` target of the bench.

    script=benchmarks/baselines/in_process.py
    vecserve bench run -t "in-process=exec:python $script models/all-MiniLM-L6-v2"

With --raw an item starts as a text or a file and is prepared by the server's own
modalities first; without, as token ids. It speaks `vecserve.bench.worker`'s protocol,
closed loops only. The fastest layout of sessions and batches is found first, by trying
each for TRIAL_S; the round's note names it. The layouts: one item at a time, as many as
there are callers, half as many, or sorted by length in eights (all items known
beforehand); on one session of all cores, its threads spinning, or on as many 1-thread
sessions. A load of one caller runs one item at a time.
"""

import argparse
import itertools
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from vecserve.bench.load import POOL_MESSAGES, Load, RoundSpec
from vecserve.bench.samples import Samples
from vecserve.bench.targets import BenchError
from vecserve.bench.workload import texts, token_ids
from vecserve_server.modalities.content import Content, Limits
from vecserve_server.modalities.registry import build_modality
from vecserve_server.modalities.rows import Row
from vecserve_server.modalities.text import Text
from vecserve_server.repository.manifest import MANIFEST_FILE, Manifest

TRIAL_S = 0.8
TRIAL_ROUNDS = 2
SORTED_ROWS = 8
MAX_ROWS, MAX_FILE_ROWS = 32, 4
CORES = os.cpu_count() or 1

Feeds = dict[str, npt.NDArray[np.generic]]
RowFactory = Callable[[], Row]


@dataclass(frozen=True, slots=True)
class SessionLayout:
    """Sessions and batches: `sessions` in parallel of `threads` each, `rows` a batch."""

    sessions: int
    threads: int
    rows: int
    by_length: bool = False

    def __str__(self) -> str:
        order = "sorted " if self.by_length else ""
        return f"{self.sessions}x{self.threads} threads, {order}batches of {self.rows}"


def layouts(load: Load) -> list[SessionLayout]:
    """Return the layouts to try for a load; those of one caller run one item at a time."""
    callers = load.concurrency * (load.in_flight if load.stream else 1) * load.items
    callers = min(callers, MAX_FILE_ROWS if load.files else MAX_ROWS)
    shapes = [(1, CORES), (CORES, 1)]
    if callers == 1:
        return [SessionLayout(1, CORES, 1), SessionLayout(1, 1, 1)]
    rows = sorted({1, max(callers // 2, 1), callers, *((8, 16) if callers > 16 else ())})
    found = [SessionLayout(*shape, own) for shape in shapes for own in rows]
    if load.files or load.tokens[0] == load.tokens[1]:
        return found
    return found + [SessionLayout(*shape, SORTED_ROWS, by_length=True) for shape in shapes]


class InProcessRunner:
    """One graph of a bundle in ONNX Runtime, and the items of a load."""

    def __init__(self, bundle: Path, *, raw: bool, modality: str | None) -> None:
        """Read the bundle: a folder of versions, or of one version."""
        if not (bundle / MANIFEST_FILE).is_file():
            bundle = max(bundle.glob(f"*/{MANIFEST_FILE}")).parent
        self.manifest = Manifest.model_validate_json((bundle / MANIFEST_FILE).read_bytes())
        self._tower = next(
            tower for tower in self.manifest.towers if modality in (None, tower.input.kind)
        )
        self._graph = bundle / self._tower.graph
        self._modality = build_modality(self._tower.input, bundle, Limits())
        self._raw = raw
        self._sessions: dict[int, list[ort.InferenceSession]] = {}
        self._factories: dict[tuple[object, ...], list[RowFactory]] = {}
        self._best: dict[Load, SessionLayout] = {}

    def sessions(self, layout: SessionLayout) -> list[ort.InferenceSession]:
        """Return the sessions of a layout; they are kept."""
        known = self._sessions.setdefault(layout.threads, [])
        while len(known) < layout.sessions:
            options = ort.SessionOptions()
            options.intra_op_num_threads = layout.threads
            options.inter_op_num_threads = 1
            options.log_severity_level = 3
            known.append(
                ort.InferenceSession(str(self._graph), options, providers=["CPUExecutionProvider"])
            )
        return known[: layout.sessions]

    def round(self, spec: RoundSpec) -> tuple[Samples, SessionLayout]:
        """Run a round in the fastest layout. Raises BenchError for an open loop."""
        if spec.load.open:
            raise BenchError("in-process ONNX Runtime runs closed loops only: give --concurrency")
        factories = self.row_factories(spec.load)
        if spec.load not in self._best:
            self._best[spec.load] = self._fastest(layouts(spec.load), factories)
        layout = self._best[spec.load]
        return self.run(layout, factories, spec.lead_s + spec.seconds, spec.round), layout

    def _fastest(
        self, candidates: Sequence[SessionLayout], factories: Sequence[RowFactory]
    ) -> SessionLayout:
        """Try each layout for TRIAL_S in all, interleaved, after a round that does not count."""
        items = dict.fromkeys(candidates, 0)
        seconds = dict.fromkeys(candidates, 0.0)
        for number in range(TRIAL_ROUNDS + 1):
            for layout in candidates:
                done = self.run(layout, factories, TRIAL_S / TRIAL_ROUNDS, number)
                if number:
                    items[layout] += sum(done.items)
                    seconds[layout] += max(done.done_s)
        return max(candidates, key=lambda layout: items[layout] / seconds[layout])

    def run(
        self, layout: SessionLayout, factories: Sequence[RowFactory], seconds: float, number: int
    ) -> Samples:
        """Run batches for `seconds`, on a thread a session."""
        if layout.by_length:
            # The lengths count as known: finding them out is not in the measured time.
            factories = sorted(factories, key=lambda factory: factory().positions)
        batches = _batches(factories, layout.rows, number, shuffled=layout.by_length)
        lock = threading.Lock()
        samples = Samples()
        output = self._tower.outputs[0].name
        sessions = self.sessions(layout)
        started = time.perf_counter()

        def work(session: ort.InferenceSession) -> None:
            while (began := time.perf_counter() - started) < seconds:
                with lock:
                    batch = next(batches)
                session.run([output], self._feeds([factory() for factory in batch]))
                done = time.perf_counter() - started
                with lock:
                    samples.add(began, began, done, len(batch), [])

        threads = [threading.Thread(target=work, args=[one]) for one in sessions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return samples

    def row_factories(self, load: Load) -> list[RowFactory]:
        """Return a factory of each item's row: ready for tensors, preparing it for --raw."""
        key = (load.tokens, load.files, load.seed)
        if key in self._factories:
            return self._factories[key]
        modality = self._modality
        if not self._raw:
            rows = [_row(ids) for ids in token_ids(load, POOL_MESSAGES)]
            made: list[RowFactory] = [lambda row=row: row for row in rows]  # type: ignore[misc]
        else:
            contents = self._contents(load)
            made = [
                lambda content=content: modality.prepare(  # type: ignore[misc]
                    content, refuse_truncation=False
                ).rows[0]
                for content in contents
            ]
        return self._factories.setdefault(key, made)

    def _contents(self, load: Load) -> list[Content]:
        if self._tower.input.kind == "text":
            return [Text(text) for text in texts(load, POOL_MESSAGES)]
        return [self._modality.from_bytes(Path(name).read_bytes()) for name in load.files]

    def _feeds(self, rows: Sequence[Row]) -> Feeds:
        pads = self._modality.pads
        return {
            name: _stack([row.feeds[name] for row in rows], pads.get(name))
            for name in rows[0].feeds
        }


def _row(ids: Sequence[int]) -> Row:
    feeds: Feeds = {
        "input_ids": np.array(ids, np.int64),
        "attention_mask": np.ones(len(ids), np.int64),
    }
    return Row(feeds, positions=len(ids))


def _stack(arrays: Sequence[npt.NDArray[np.generic]], pad: int | None) -> npt.NDArray[np.generic]:
    if pad is None:
        return np.stack(arrays)
    stacked = np.full((len(arrays), max(map(len, arrays))), pad, np.int64)
    for row, array in zip(stacked, arrays, strict=True):
        row[: len(array)] = array
    return stacked


def _batches(
    factories: Sequence[RowFactory], rows: int, number: int, *, shuffled: bool
) -> Iterator[list[RowFactory]]:
    """Yield batches of adjacent items, without end; a round starts where the clients' does."""
    if shuffled:
        # Whole batches out of order, so that a short round sees all lengths.
        starts = np.random.default_rng(number).permutation(range(0, len(factories), rows))
        for start in itertools.cycle(starts):
            yield list(factories[start : start + rows])
    first = number * 97
    for start in itertools.count(first, rows):
        yield [factories[(start + position) % len(factories)] for position in range(rows)]


def serve(runner: InProcessRunner) -> None:
    """Run the rounds that lines on stdin ask for, until it ends."""
    untrained = [] if runner.manifest.trained else [runner.manifest.name]
    for line in sys.stdin:
        answer: dict[str, object]
        began_s = time.process_time()
        try:
            samples, layout = runner.round(RoundSpec.from_json(json.loads(line)))
            answer = {
                "samples": samples.to_json(),
                "cpu_s": time.process_time() - began_s,
                "untrained": untrained,
                "note": str(layout),
            }
        except BenchError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


def main() -> None:
    """Serve as a target."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--raw", action="store_true", help="start from texts or files")
    parser.add_argument("--modality", choices=["text", "image", "audio"])
    arguments = parser.parse_args()
    serve(InProcessRunner(arguments.bundle, raw=arguments.raw, modality=arguments.modality))


if __name__ == "__main__":
    main()
