"""Bundle loading: each tower's modality and graph, and the models they are served by."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from vecserve_server.engine.padding import MASK_INPUT, GraphSpec
from vecserve_server.engine.providers.select import best_provider
from vecserve_server.engine.session import GraphError, Session
from vecserve_server.engine.tensors import TensorSpec, datatype_of
from vecserve_server.loading.graph import GraphFile, GraphPlan, LoadedGraph, load_graph
from vecserve_server.loading.resources import LoadResources
from vecserve_server.modalities.base import Modality
from vecserve_server.modalities.registry import build_modality
from vecserve_server.modalities.rows import Row
from vecserve_server.repository.bundle import Bundle
from vecserve_server.repository.config import Provider
from vecserve_server.repository.errors import BundleError
from vecserve_server.repository.manifest import Pooling, Tower
from vecserve_server.scheduling.options import BatchLimits
from vecserve_server.serving.bundle_model import BundleModel, describe
from vecserve_server.serving.model import InService, ServedModel
from vecserve_server.serving.options import Dimensions
from vecserve_server.serving.tower import ServedTower, to_job

# Rows a tensor request may have, in full batches of the bundle's own size: the
# rows run together, so this bounds the memory that one request takes.
_BATCHES_PER_REQUEST = 4


@dataclass(frozen=True, slots=True)
class LoadedTower:
    """A tower in memory, that nobody asks yet."""

    tower: Tower
    modality: Modality[Any, Any]
    graph: LoadedGraph


@dataclass(frozen=True, slots=True)
class LoadedBundle:
    """A bundle in memory, that nobody asks yet."""

    bundle: Bundle
    towers: tuple[LoadedTower, ...]

    def serve(self, resources: LoadResources) -> InService:
        """Put it in service, for raw items and for its graphs' own tensors."""
        bundle = self.bundle
        about = describe(bundle.manifest)
        dimensions = Dimensions(bundle.manifest.dimensions, bundle.manifest.matryoshka_dimensions)
        graphs = tuple(loaded.graph.serve(resources) for loaded in self.towers)
        towers = {
            loaded.tower.input.kind: ServedTower(
                loaded.tower,
                loaded.modality,
                dimensions,
                graph,
                resources.prepare_threads,
                resources.decoders,
                prepare_workers=resources.prepare_workers,
            )
            for loaded, graph in zip(self.towers, graphs, strict=True)
        }
        items = BundleModel(
            bundle.manifest,
            towers,
            queue_delay_s=resources.queue_delay_s,
            instances=resources.cores,
        )
        models: list[ServedModel] = [items]
        models += [
            loaded.graph.tensor_model(
                graph,
                resources,
                name=f"{bundle.name}.{loaded.tower.input.kind}",
                version=bundle.version,
                filename=loaded.tower.graph,
                about=about,
            )
            for loaded, graph in zip(self.towers, graphs, strict=True)
        ]
        return InService({model.name: model for model in models}, graphs)


def load_bundle(bundle: Bundle, resources: LoadResources) -> LoadedBundle:
    """Load every tower of a bundle; slow, for a worker thread.

    Raises BundleError, GraphError and what ONNX Runtime raises.
    """
    return LoadedBundle(
        bundle, tuple(_load_tower(bundle, tower, resources) for tower in bundle.manifest.towers)
    )


def _load_tower(bundle: Bundle, tower: Tower, resources: LoadResources) -> LoadedTower:
    try:
        modality = build_modality(tower.input, bundle.folder, resources.limits)
    except ValueError as error:
        raise BundleError(f"{bundle.folder}: {error}") from error
    if modality.decodes and resources.decoders:
        resources.decoders.start()
    # The integers were chosen for the kernels of ONNX Runtime's own cpu.
    default: Provider = "cpu" if bundle.manifest.precision == "int8" else best_provider()
    file = GraphFile(
        name=f"{bundle.name}/{bundle.version}/{tower.input.kind}",
        model=bundle.name,
        path=bundle.folder / tower.graph,
        sha256=bundle.manifest.files[tower.graph],
        config=bundle.config,
        default=default,
        fp16=bundle.manifest.precision == "fp16",
    )

    planner = partial(_plan, file.path, tower, modality, resources)
    return LoadedTower(tower, modality, load_graph(file, planner, resources))


def _plan(
    path: Path,
    tower: Tower,
    modality: Modality[Any, Any],
    resources: LoadResources,
    session: Session,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
) -> GraphPlan:
    """Return how to run the graph of a tower: Planner. Raises GraphError."""
    longest = modality.blank_row(modality.max_positions)
    _check_graph(path, tower, longest, inputs, outputs)
    pads = modality.pads
    unpooled = {output.name for output in tower.outputs if output.pooling is Pooling.NONE}
    row_bytes = sum(feed.nbytes for feed in longest.feeds.values())
    # Not of single positions: those of Whisper that hold no sound go anywhere.
    compared = tuple(output.name for output in tower.outputs if output.name not in unpooled)
    return GraphPlan(
        inputs=inputs,
        outputs=outputs,
        spec=GraphSpec(pads, frozenset(unpooled if pads else ())),
        limits=BatchLimits(
            tower.max_batch_rows * session.batch_scale,
            tower.max_batch_positions * session.batch_scale,
            resources.queue_delay_s,
        ),
        # As many rows as fit the bytes, and one item of the largest size.
        capacity=max(resources.queue_bytes // row_bytes, modality.max_rows),
        max_batch_size=_BATCHES_PER_REQUEST * tower.max_batch_rows,
        length_input=MASK_INPUT if pads else None,
        max_length=modality.max_positions if pads else None,
        blank_row=lambda positions: to_job(modality.blank_row(positions), (tower.outputs[0].name,)),
        max_positions=modality.max_positions,
        measured_always=True,
        parity_jobs=[to_job(row, compared) for row in modality.probe_rows()],
        ranges=modality.ranges,
    )


def _check_graph(
    path: Path,
    tower: Tower,
    row: Row,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
) -> None:
    """Raise GraphError unless the graph takes rows like `row` and gives the tower's outputs."""
    found = {spec.name: spec.datatype.name for spec in inputs}
    expected = {name: datatype_of(feed).name for name, feed in row.feeds.items()}
    if found != expected:
        raise GraphError(f"{path} takes {found}, a {tower.input.kind} graph takes {expected}")
    names = {spec.name for spec in outputs}
    if missing := sorted({output.name for output in tower.outputs} - names):
        raise GraphError(f"{path} has no output {', '.join(missing)}")
