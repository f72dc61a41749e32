"""ONNX file loading: a graph without a manifest, run as its axes' names and its config say."""

from dataclasses import dataclass
from functools import partial

from vecserve_server.engine.engine import Job
from vecserve_server.engine.padding import GraphSpec
from vecserve_server.engine.providers.select import best_provider
from vecserve_server.engine.session import Session
from vecserve_server.engine.tensors import TensorSpec
from vecserve_server.loading.batching_check import blank_row, check_batching
from vecserve_server.loading.graph import GraphFile, GraphPlan, LoadedGraph, load_graph
from vecserve_server.loading.resources import LoadResources
from vecserve_server.repository.errors import BundleError
from vecserve_server.repository.onnx_file import DEFAULT_MAX_BATCH_SIZE, GRAPH_FILE, OnnxFile
from vecserve_server.scheduling.options import BatchLimits
from vecserve_server.serving.model import InService
from vecserve_server.serving.tensor_model import length_input_of

# Positions a batch may have, for every row it may have: those of a short sentence.
_POSITIONS_PER_ROW = 64
# Longest blank row measured.
_MEASURED_POSITIONS = 128


@dataclass(frozen=True, slots=True)
class LoadedOnnxFile:
    """An ONNX file in memory, that nobody asks yet."""

    file: OnnxFile
    graph: LoadedGraph

    def serve(self, resources: LoadResources) -> InService:
        """Put it in service, for its own tensors."""
        graph = self.graph.serve(resources)
        model = self.graph.tensor_model(
            graph,
            resources,
            name=self.file.name,
            version=self.file.version,
            filename=GRAPH_FILE,
            about={},
        )
        return InService({model.name: model}, (graph,))


def load_onnx_file(file: OnnxFile, resources: LoadResources) -> LoadedOnnxFile:
    """Load an ONNX file, try it out and measure it; slow, for a worker thread.

    Raises BundleError, GraphError.
    """
    # Nothing that computes less exactly: nobody could say what is good enough.
    best = best_provider()
    graph = GraphFile(
        name=f"{file.name}/{file.version}",
        model=file.name,
        path=file.graph,
        sha256=file.sha256,
        config=file.config,
        default="cpu" if best == "openvino" else best,
    )
    planner = partial(_plan, file, resources)
    return LoadedOnnxFile(file, load_graph(graph, planner, resources))


def _plan(
    file: OnnxFile,
    resources: LoadResources,
    session: Session,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
) -> GraphPlan:
    """Return how to run the graph of an ONNX file: Planner."""
    config = file.config
    by_axes = GraphSpec.of_tensors(inputs, outputs, config.mask_input)
    if config.max_batch_size and not by_axes.batches:
        raise BundleError(
            f"{file.folder} has max_batch_size {config.max_batch_size}, but the first "
            "axis of its inputs and outputs is not free: set it to 0, or export the graph "
            "with a free axis"
        )
    batches = by_axes.batches and config.max_batch_size != 0
    spec = check_batching(
        file.name,
        session,
        by_axes if batches else GraphSpec({}, frozenset(), batches=False),
        inputs,
        outputs,
        resources.watchdog,
    )
    max_batch_size = (config.max_batch_size or DEFAULT_MAX_BATCH_SIZE) if batches else 0
    length_input = length_input_of(inputs, config.mask_input) if batches else None
    rows = max(max_batch_size, 1)
    delay_s = resources.queue_delay_s
    if config.queue_delay_us is not None:
        delay_s = config.queue_delay_us / 1e6
    names = tuple(output.name for output in outputs)

    def blank(positions: int) -> Job:
        length = positions if length_input else 1
        return blank_row(inputs, spec, length, outputs=names)

    return GraphPlan(
        inputs=inputs,
        outputs=outputs,
        spec=spec,
        limits=BatchLimits(rows, rows * _POSITIONS_PER_ROW if length_input else rows, delay_s),
        capacity=rows,
        max_batch_size=max_batch_size,
        length_input=length_input,
        max_length=None,
        blank_row=blank if config.warm_up else None,
        max_positions=_MEASURED_POSITIONS,
        measured_always=False,
        parity_jobs=[],
        instances=config.instances,
    )
