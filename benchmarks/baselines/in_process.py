"""The limit: ONNX Runtime in a process of its own, without a server, as a bench target.

    script=benchmarks/baselines/in_process.py
    vecserve bench run -t "limit=exec:python $script models/all-MiniLM-L6-v2"

With --raw an item starts as a text or a file and is prepared by the server's own
pipelines first; without, as token ids. It speaks `vecserve.bench.worker`'s protocol,
closed loops only. What is fastest is found first, by trying each way for TRIAL_S; the
round's note says which it was. The ways: one item at a time, as many as there are
callers, half as many, or sorted by length in eights (all items known beforehand); on one
session of all cores, its threads spinning, or on as many 1-thread sessions. A load of
one caller runs one item at a time.
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

from vecserve.bench.load import POOL_MESSAGES, Load, Turn
from vecserve.bench.samples import Samples
from vecserve.bench.targets import BenchError
from vecserve.bench.workload import texts, token_ids
from vecserve_server.pipelines.base import Content, EncodedAudio, EncodedImage, Limits, Row, Text
from vecserve_server.pipelines.build import build_pipeline
from vecserve_server.repository.manifest import MANIFEST_FILE, Manifest, TextInput

TRIAL_S = 0.8
TRIAL_TURNS = 2
SORTED_ROWS = 8
MAX_ROWS, MAX_FILE_ROWS = 32, 4
CORES = os.cpu_count() or 1

Feeds = dict[str, npt.NDArray[np.generic]]
Maker = Callable[[], Row]


@dataclass(frozen=True, slots=True)
class Way:
    """How to run: `sessions` side by side of `threads` each, `rows` a batch."""

    sessions: int
    threads: int
    rows: int
    by_length: bool = False

    def __str__(self) -> str:
        order = "sorted " if self.by_length else ""
        return f"{self.sessions}x{self.threads} threads, {order}batches of {self.rows}"


def ways(load: Load) -> list[Way]:
    """Return the ways that a load may be run, one caller's in one run at a time."""
    callers = load.concurrency * (load.in_flight if load.stream else 1) * load.items
    callers = min(callers, MAX_FILE_ROWS if load.files else MAX_ROWS)
    layouts = [(1, CORES), (CORES, 1)]
    if callers == 1:
        return [Way(1, CORES, 1), Way(1, 1, 1)]
    rows = sorted({1, max(callers // 2, 1), callers, *((8, 16) if callers > 16 else ())})
    found = [Way(*layout, own) for layout in layouts for own in rows]
    if load.files or load.tokens[0] == load.tokens[1]:
        return found
    return found + [Way(*layout, SORTED_ROWS, by_length=True) for layout in layouts]


class Limit:
    """One graph of a bundle, and the items of a load."""

    def __init__(self, bundle: Path, *, raw: bool, modality: str | None) -> None:
        """Read the bundle: a folder of versions, or of one version."""
        if not (bundle / MANIFEST_FILE).is_file():
            bundle = max(bundle.glob(f"*/{MANIFEST_FILE}")).parent
        self.manifest = Manifest.model_validate_json((bundle / MANIFEST_FILE).read_bytes())
        self._tower = next(
            tower for tower in self.manifest.towers if modality in (None, tower.input.kind)
        )
        self._graph = bundle / self._tower.graph
        self._pipeline = build_pipeline(self._tower, bundle, Limits()) if raw else None
        self._sessions: dict[int, list[ort.InferenceSession]] = {}
        self._makers: dict[tuple[object, ...], list[Maker]] = {}
        self._best: dict[Load, Way] = {}

    def sessions(self, way: Way) -> list[ort.InferenceSession]:
        """Return sessions for a way of running; they are kept."""
        known = self._sessions.setdefault(way.threads, [])
        while len(known) < way.sessions:
            options = ort.SessionOptions()
            options.intra_op_num_threads = way.threads
            options.inter_op_num_threads = 1
            options.log_severity_level = 3
            known.append(
                ort.InferenceSession(str(self._graph), options, providers=["CPUExecutionProvider"])
            )
        return known[: way.sessions]

    def round(self, turn: Turn) -> tuple[Samples, Way]:
        """Run a turn the fastest way. Raises BenchError for an open loop."""
        if turn.load.open:
            raise BenchError("the in-process limit runs closed loops only: give --concurrency")
        makers = self.makers(turn.load)
        if turn.load not in self._best:
            self._best[turn.load] = self._fastest(ways(turn.load), makers)
        way = self._best[turn.load]
        return self.run(way, makers, turn.lead_s + turn.seconds, turn.round), way

    def _fastest(self, candidates: Sequence[Way], makers: Sequence[Maker]) -> Way:
        """Try each way for TRIAL_S in all, in turns, after a turn that does not count."""
        items = dict.fromkeys(candidates, 0)
        seconds = dict.fromkeys(candidates, 0.0)
        for number in range(TRIAL_TURNS + 1):
            for way in candidates:
                done = self.run(way, makers, TRIAL_S / TRIAL_TURNS, number)
                if number:
                    items[way] += sum(done.items)
                    seconds[way] += max(done.done_s)
        return max(candidates, key=lambda way: items[way] / seconds[way])

    def run(self, way: Way, makers: Sequence[Maker], seconds: float, number: int) -> Samples:
        """Run batches for `seconds`, on a thread a session."""
        if way.by_length:
            # Finding out the lengths is a gift: it is not in the time.
            makers = sorted(makers, key=lambda maker: maker().positions)
        batches = _batches(makers, way.rows, number, shuffled=way.by_length)
        lock = threading.Lock()
        samples = Samples()
        output = self._tower.outputs[0].name
        sessions = self.sessions(way)
        started = time.perf_counter()

        def work(session: ort.InferenceSession) -> None:
            while (began := time.perf_counter() - started) < seconds:
                with lock:
                    batch = next(batches)
                session.run([output], self._feeds([maker() for maker in batch]))
                done = time.perf_counter() - started
                with lock:
                    samples.add(began, began, done, len(batch), [])

        threads = [threading.Thread(target=work, args=[one]) for one in sessions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return samples

    def makers(self, load: Load) -> list[Maker]:
        """Return what makes each item's row: at once for tensors, with the work of it for raw."""
        key = (load.tokens, load.files, load.seed)
        if key in self._makers:
            return self._makers[key]
        pipeline = self._pipeline
        if pipeline is None:
            rows = [_row(ids) for ids in token_ids(load, POOL_MESSAGES)]
            made: list[Maker] = [lambda row=row: row for row in rows]  # type: ignore[misc]
        else:
            contents = self._contents(load)
            made = [
                lambda content=content: pipeline.prepare(  # type: ignore[misc]
                    content, refuse_truncation=False
                ).rows[0]
                for content in contents
            ]
        return self._makers.setdefault(key, made)

    def _contents(self, load: Load) -> list[Content]:
        if self._tower.input.kind == "text":
            return [Text(text) for text in texts(load, POOL_MESSAGES)]
        kind = EncodedImage if self._tower.input.kind == "image" else EncodedAudio
        return [kind(Path(name).read_bytes()) for name in load.files]

    def _feeds(self, rows: Sequence[Row]) -> Feeds:
        pads = {}
        if isinstance(self._tower.input, TextInput):
            pads = {"input_ids": self._tower.input.pad_id, "attention_mask": 0}
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
    makers: Sequence[Maker], rows: int, number: int, *, shuffled: bool
) -> Iterator[list[Maker]]:
    """Yield batches of neighbours, over and over; a round starts where the clients do."""
    if shuffled:
        # Whole batches out of order, so that a short round sees all lengths.
        starts = np.random.default_rng(number).permutation(range(0, len(makers), rows))
        for start in itertools.cycle(starts):
            yield list(makers[start : start + rows])
    first = number * 97
    for start in itertools.count(first, rows):
        yield [makers[(start + position) % len(makers)] for position in range(rows)]


def serve(limit: Limit) -> None:
    """Take turns until stdin ends."""
    untrained = [] if limit.manifest.trained else [limit.manifest.name]
    for line in sys.stdin:
        answer: dict[str, object]
        began_s = time.process_time()
        try:
            samples, way = limit.round(Turn.from_json(json.loads(line)))
            answer = {
                "samples": samples.to_json(),
                "cpu_s": time.process_time() - began_s,
                "untrained": untrained,
                "note": str(way),
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
    asked = parser.parse_args()
    limit = Limit(asked.bundle, raw=asked.raw, modality=asked.modality)
    serve(limit)


if __name__ == "__main__":
    main()
