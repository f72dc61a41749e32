"""Brings a bundle from disk to ready: checked, in memory, warmed up."""

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from vecserve_server.engine.batch import Array, Engine, Job
from vecserve_server.engine.graph import GraphSpec
from vecserve_server.engine.session import Session
from vecserve_server.pipelines.base import Limits
from vecserve_server.pipelines.build import build_pipeline
from vecserve_server.repository.manifest import Tower
from vecserve_server.repository.reader import Bundle, BundleError
from vecserve_server.scheduling.runner import Runner
from vecserve_server.scheduling.scheduler import BatchLimits
from vecserve_server.serving.graph import ServedGraph
from vecserve_server.serving.tower import LoadedTower

# Rows of the warm-up's batches: memory for one row and for a small batch is
# then allocated before the first caller comes.
_WARM_UP_ROWS = (1, 2)


@dataclass(frozen=True, slots=True)
class Machine:
    """What loaded models share: the threads, and the bounds that follow from the machine."""

    runner: Runner
    prepare_threads: Executor
    prepare_workers: int
    slots: int
    threads_per_batch: int
    queue_bytes: int
    limits: Limits


def load_towers(bundle: Bundle, machine: Machine) -> Callable[[], dict[str, LoadedTower]]:
    """Load and warm up every graph of a bundle; slow, for a worker thread.

    Returns a function that puts them in service, to be called on the event
    loop. Raises BundleError, GraphError and what ONNX Runtime raises.
    """
    loaded = []
    for tower in bundle.manifest.towers:
        try:
            pipeline = build_pipeline(tower, bundle.folder, machine.limits)
        except ValueError as error:
            raise BundleError(f"{bundle.folder}: {error}") from error
        session = Session(bundle.folder / tower.graph, tower, threads=machine.threads_per_batch)
        engine = Engine(session, GraphSpec.of_tower(tower))
        _warm_up(engine, tower)
        loaded.append((tower, pipeline, engine))

    def into_service() -> dict[str, LoadedTower]:
        towers: dict[str, LoadedTower] = {}
        for tower, pipeline, engine in loaded:
            name = f"{bundle.manifest.name}/{bundle.manifest.version}/{tower.input.kind}"
            limits = BatchLimits(tower.max_batch_rows, tower.max_batch_positions)
            graph = ServedGraph(
                machine.runner,
                machine.runner.add(name, limits, engine),
                capacity=_capacity(tower, machine),
                slots=machine.slots,
            )
            towers[tower.input.kind] = LoadedTower(
                tower,
                pipeline,
                graph,
                machine.prepare_threads,
                max_hops=machine.prepare_workers,
            )
        return towers

    return into_service


def _warm_up(engine: Engine, tower: Tower) -> None:
    row = _blank_row(tower)
    for rows in _WARM_UP_ROWS:
        for outcome in engine.run([row] * min(rows, tower.max_batch_rows)):
            if isinstance(outcome, Exception):
                raise outcome


def _blank_row(tower: Tower) -> Job:
    """A valid row that means nothing."""
    feeds: dict[str, Array]
    positions = 1
    match tower.input.kind:
        case "text":
            positions = min(16, tower.input.max_tokens)
            ids = np.full((1, positions), tower.input.pad_id, dtype=np.int64)
            feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        case "image":
            shape = (1, tower.input.crop_height, tower.input.crop_width, 3)
            feeds = {"pixels": np.zeros(shape, dtype=np.uint8)}
        case "audio":
            samples = tower.input.window_samples
            feeds = {
                "waveform": np.zeros((1, samples), dtype=np.float32),
                "lengths": np.array([samples], dtype=np.int64),
            }
    return Job(feeds, rows=1, positions=positions, outputs=(tower.outputs[0].name,))


def _capacity(tower: Tower, machine: Machine) -> int:
    """How many rows may wait: as many as fit `queue_bytes`, and one item of the largest size."""
    row = _blank_row(tower)
    row_bytes = sum(array.nbytes for array in row.feeds.values())
    rows_of_largest_item = 1
    if tower.input.kind == "text":
        row_bytes = row_bytes * tower.input.max_tokens // row.positions
    if tower.input.kind == "audio":
        window_s = tower.input.window_samples / tower.input.sample_rate_hz
        rows_of_largest_item = int(machine.limits.max_audio_s / window_s) + 1
    return max(machine.queue_bytes // row_bytes, rows_of_largest_item)
