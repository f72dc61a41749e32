"""Brings an ONNX file without a manifest from disk to ready."""

import logging
from collections.abc import Callable

from vecserve_server.engine.engine import Engine
from vecserve_server.engine.padding import GraphSpec
from vecserve_server.engine.providers.select import best_provider
from vecserve_server.engine.session import Session
from vecserve_server.engine.tensors import UnknownType, specs_of
from vecserve_server.loading.batching_check import blank_row, check_batching
from vecserve_server.loading.calibrate import calibrate
from vecserve_server.loading.providers import load_on_choice, log_nodes
from vecserve_server.loading.resources import LoadResources
from vecserve_server.repository.config import Provider
from vecserve_server.repository.errors import BundleError
from vecserve_server.repository.onnx_file import DEFAULT_MAX_BATCH_SIZE, GRAPH_FILE, OnnxFile
from vecserve_server.scheduling.cost_model import CostModel, Sample
from vecserve_server.scheduling.options import BatchLimits
from vecserve_server.serving.graph import ServedGraph
from vecserve_server.serving.tensor_model import TensorModel, length_input_of

_log = logging.getLogger(__name__)

# Positions a batch may have, for every row it may have: those of a short sentence.
_POSITIONS_PER_ROW = 64
# Longest blank row measured.
_MEASURED_POSITIONS = 128
# What a batch is expected to take until one has run, in seconds.
_GUESS_S = 0.01


def _automatic() -> Provider:
    """Return what runs a graph where nobody says: nothing that computes less exactly.

    Nobody could say whether such outputs are good enough.
    """
    best = best_provider()
    return "cpu" if best == "openvino" else best


def load_onnx_file(
    model: OnnxFile, resources: LoadResources
) -> Callable[[], tuple[TensorModel, ServedGraph]]:
    """Load a plain model, try it out and measure it; slow, for a worker thread.

    Returns a function that puts it in service, to be called on the event loop.
    Raises BundleError, GraphError.
    """
    config = model.config
    name = f"{model.name}/{model.version}"
    session = load_on_choice(
        name,
        resources.providers.choice(model.name, config),
        _automatic,
        lambda provider: Session(
            model.graph,
            model.sha256,
            cores=resources.cores,
            cache=resources.cache,
            provider=provider,
        ),
    )
    log_nodes(name, session)
    try:
        inputs, outputs = specs_of(session.inputs), specs_of(session.outputs)
    except UnknownType as error:
        raise BundleError(f"{model.graph}: {error}") from error
    spec = GraphSpec.of_tensors(inputs, outputs, config.mask_input)
    if config.max_batch_size and not spec.batches:
        raise BundleError(
            f"{model.folder} has max_batch_size {config.max_batch_size}, but the first axis of its "
            "inputs and outputs is not free: set it to 0, or export the graph with a free axis"
        )
    if config.max_batch_size == 0:
        spec = GraphSpec({}, frozenset(), batches=False)
    max_batch_size = 0
    if spec.batches:
        max_batch_size = config.max_batch_size or DEFAULT_MAX_BATCH_SIZE
    spec = check_batching(model.name, session, spec, inputs, outputs)
    engine = Engine(session, spec, config.instances)
    length_input = length_input_of(inputs, config.mask_input) if max_batch_size else None
    rows = max(max_batch_size, 1)
    limits = BatchLimits(
        rows,
        rows * _POSITIONS_PER_ROW if length_input else rows,
        resources.queue_delay_s if config.queue_delay_us is None else config.queue_delay_us / 1e6,
    )
    cost = CostModel([Sample(1, 1, _GUESS_S)], speedup=1.0)
    if config.warm_up:
        names = tuple(output.name for output in outputs)
        try:
            cost = calibrate(
                engine,
                lambda length: blank_row(
                    inputs, spec, length if length_input else 1, outputs=names
                ),
                has_lengths=length_input is not None,
                max_rows=rows if spec.batches else 1,
                max_positions=_MEASURED_POSITIONS,
            )
        except Exception as error:
            _log.warning("%s takes no blank rows, so it is not warmed up: %s", model.name, error)

    def into_service() -> tuple[TensorModel, ServedGraph]:
        queue = resources.runner.add(name, limits, cost, engine)
        graph = ServedGraph(resources.runner, queue, inputs=inputs, outputs=outputs, capacity=rows)
        served = TensorModel(
            model.name,
            model.version,
            graph,
            filename=GRAPH_FILE,
            about={},
            max_batch_size=max_batch_size,
            queue_delay_s=limits.delay_s,
            instances=config.instances or resources.cores,
            queue_bytes=resources.queue_bytes,
            length_input=length_input,
        )
        return served, graph

    return into_service
