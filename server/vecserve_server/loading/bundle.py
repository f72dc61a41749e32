"""Brings a bundle from disk to ready: checked, in memory, warmed up."""

import logging
from collections.abc import Callable

import numpy as np

from vecserve_server.engine.engine import Array, Engine, Job
from vecserve_server.engine.padding import GraphSpec
from vecserve_server.engine.providers.select import best_provider
from vecserve_server.engine.session import Session
from vecserve_server.engine.tensors import specs_of
from vecserve_server.loading.calibrate import calibrate
from vecserve_server.loading.graph_check import check_graph
from vecserve_server.loading.parity import check_parity, probe_jobs
from vecserve_server.loading.providers import load_on_choice, log_nodes
from vecserve_server.loading.resources import LoadResources
from vecserve_server.modalities.build import build_pipeline
from vecserve_server.repository.bundle import Bundle
from vecserve_server.repository.config import Provider
from vecserve_server.repository.errors import BundleError
from vecserve_server.repository.manifest import Tower
from vecserve_server.scheduling.cost_model import CostModel
from vecserve_server.scheduling.options import BatchLimits
from vecserve_server.scheduling.scheduler import use_of_cores
from vecserve_server.serving.graph import ServedGraph
from vecserve_server.serving.tower import LoadedTower

_log = logging.getLogger(__name__)


def load_towers(bundle: Bundle, resources: LoadResources) -> Callable[[], dict[str, LoadedTower]]:
    """Load, warm up and measure every graph of a bundle; slow, for a worker thread.

    Returns a function that puts them in service, to be called on the event
    loop. Raises BundleError, GraphError and what ONNX Runtime raises.
    """
    into_service = [_load_tower(bundle, tower, resources) for tower in bundle.manifest.towers]
    return lambda: {tower.tower.input.kind: tower for tower in (put() for put in into_service)}


def _load_tower(
    bundle: Bundle, tower: Tower, resources: LoadResources
) -> Callable[[], LoadedTower]:
    try:
        pipeline = build_pipeline(tower, bundle.folder, resources.limits)
    except ValueError as error:
        raise BundleError(f"{bundle.folder}: {error}") from error
    path = bundle.folder / tower.graph
    sha256 = bundle.manifest.files[tower.graph]
    name = f"{bundle.name}/{bundle.version}/{tower.input.kind}"
    spec = GraphSpec.of_tower(tower)

    def load(provider: Provider) -> tuple[Session, Engine]:
        session = Session(
            path, sha256, cores=resources.cores, cache=resources.cache, provider=provider
        )
        check_graph(session, tower, path)
        engine = Engine(session, spec)
        if provider != "cpu":
            reference = Engine(Session(path, sha256, cores=1, cache=resources.cache), spec)
            cosine = check_parity(
                engine, reference, probe_jobs(tower, pipeline), bundle.name, provider
            )
            _log.info("%s: min cosine %.6f on %s to its vectors on cpu", name, cosine, provider)
        return session, engine

    def automatic() -> Provider:
        # The integers were chosen for the kernels of ONNX Runtime's own cpu.
        return "cpu" if bundle.manifest.precision == "int8" else best_provider()

    choice = resources.providers.choice(bundle.name, bundle.config)
    session, engine = load_on_choice(name, choice, automatic, load)
    log_nodes(name, session)
    cost = calibrate(
        engine,
        lambda positions: _blank_row(tower, positions),
        has_lengths=tower.input.kind == "text",
        max_rows=tower.max_batch_rows,
        max_positions=_longest_row(tower),
    )
    _explain(name, cost, resources)
    limits = BatchLimits(tower.max_batch_rows, tower.max_batch_positions, resources.queue_delay_s)
    return lambda: LoadedTower(
        tower,
        pipeline,
        ServedGraph(
            resources.runner,
            resources.runner.add(name, limits, cost, engine),
            inputs=specs_of(session.inputs),
            outputs=specs_of(session.outputs),
            capacity=_capacity(tower, resources),
        ),
        resources.prepare_threads,
        prepare_workers=resources.prepare_workers,
    )


def _explain(name: str, cost: CostModel, resources: LoadResources) -> None:
    """Say what was measured, and how batches will therefore use the cores."""
    row = f"{name}: the shortest row takes {cost.seconds(1, 1) * 1e3:.1f} ms on one core"
    if resources.cores == 1:
        _log.info("%s", row)
        return
    _log.info(
        "%s; all %d cores are %.1f times as fast, so %s",
        row,
        resources.cores,
        cost.speedup(rows=1),
        use_of_cores(cost, resources.cores),
    )


def _longest_row(tower: Tower) -> int:
    return tower.input.max_tokens if tower.input.kind == "text" else 1


def _blank_row(tower: Tower, positions: int) -> Job:
    """A valid row that means nothing."""
    feeds: dict[str, Array]
    match tower.input.kind:
        case "text":
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


def _capacity(tower: Tower, resources: LoadResources) -> int:
    """How many rows may wait: as many as fit `queue_bytes`, and one item of the largest size."""
    row = _blank_row(tower, _longest_row(tower))
    row_bytes = sum(array.nbytes for array in row.feeds.values())
    rows_of_largest_item = 1
    if tower.input.kind == "audio":
        window_s = tower.input.window_samples / tower.input.sample_rate_hz
        rows_of_largest_item = int(resources.limits.max_audio_s / window_s) + 1
    return max(resources.queue_bytes // row_bytes, rows_of_largest_item)
