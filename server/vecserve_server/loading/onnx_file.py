"""ONNX file loading: a graph without a manifest, run as its axes' names and its config say."""

import json
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

# Positions a batch may have, for every row it may have: the tokens of a short sentence, or
# half a minute of sound at 16 kHz. The time that a batch is predicted to take bounds it first.
_TOKENS_PER_ROW, _SAMPLES_PER_ROW = 64, 480_000
# Tokens are numbered by these.
_IDS = ("INT32", "INT64")
# Lengths are measured in steps of as many: half a second of sound instead of 128 tokens.
_SAMPLES_PER_STEP = 64
# Longest blank row measured, in steps.
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
    if not by_axes.batches:
        for field in ("max_batch_size", "share_batches"):
            if value := getattr(config, field):
                raise BundleError(
                    f"{file.folder} has {field} {json.dumps(value)}, but the first axis of its "
                    f"inputs and outputs is not free: leave {field} out, or export the graph with "
                    "a free axis"
                )
    batches = by_axes.batches and config.max_batch_size != 0
    spec = check_batching(
        file.name,
        session,
        by_axes,
        inputs,
        outputs,
        config.share_batches if batches else False,
        resources.watchdog,
    )
    max_batch_size = (config.max_batch_size or DEFAULT_MAX_BATCH_SIZE) if batches else 0
    length_input = length_input_of(inputs, config.mask_input) if batches else None
    rows = max(max_batch_size, 1)
    signals = any(
        len(spec.shape) == 2
        and not isinstance(spec.shape[1], int)
        and spec.datatype.name not in _IDS
        for spec in inputs
        if spec.name != config.mask_input
    )
    positions = 1
    if length_input:
        positions = _SAMPLES_PER_ROW if signals else _TOKENS_PER_ROW
    delay_s = resources.queue_delay_s
    if config.queue_delay_us is not None:
        delay_s = config.queue_delay_us / 1e6
    names = tuple(output.name for output in outputs)

    def blank(positions: int) -> Job:
        length = positions if length_input else 1
        return blank_row(inputs, by_axes, length, names)

    return GraphPlan(
        inputs=inputs,
        outputs=outputs,
        spec=spec,
        limits=BatchLimits(rows, rows * positions, delay_s),
        capacity=rows,
        max_batch_size=max_batch_size,
        length_input=length_input,
        max_length=None,
        blank_row=blank if config.warm_up else None,
        max_positions=_MEASURED_POSITIONS,
        position_step=_SAMPLES_PER_STEP if signals else 1,
        measured_always=False,
        parity_jobs=[],
        instances=config.instances,
    )
