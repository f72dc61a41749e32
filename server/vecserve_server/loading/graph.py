"""Graph loading: choose a provider, load, check, measure; the same for towers and ONNX files."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from vecserve_server.engine.engine import Engine, Job
from vecserve_server.engine.padding import GraphSpec
from vecserve_server.engine.session import GraphError, Session
from vecserve_server.engine.tensors import TensorSpec, UnknownType, specs_of
from vecserve_server.engine.watchdog import RunTerminated, RunTimedOut
from vecserve_server.loading.calibrate import calibrate, calibrate_card
from vecserve_server.loading.parity import check_parity
from vecserve_server.loading.providers import load_on_choice, log_nodes
from vecserve_server.loading.resources import LoadResources
from vecserve_server.repository.config import ModelConfig, Provider
from vecserve_server.repository.errors import BundleError
from vecserve_server.scheduling.cost_model import CostModel, Sample
from vecserve_server.scheduling.options import BatchLimits
from vecserve_server.scheduling.scheduler import use_of_cores
from vecserve_server.serving.graph import ServedGraph
from vecserve_server.serving.tensor_model import TensorModel

_log = logging.getLogger(__name__)

# What a batch of a graph that was not measured is expected to take, in seconds.
_GUESS_S = 0.01


@dataclass(frozen=True, slots=True)
class GraphPlan:
    """How a graph is to be run, known once its inputs and outputs are.

    `capacity` bounds the rows that wait or run. A tensor request has up to
    `max_batch_size` rows, 0 where the first axis is no batch, and up to
    `max_length` along axis 1 of `length_input`, where there is one. Blank rows
    of up to `max_positions` steps of `position_step` are measured, unless
    `blank_row` is None; a graph that refuses them cannot be served if they are
    `measured_always`.
    `parity_jobs` are compared with the cpu's outputs on any other provider.
    `ranges` are the least and the greatest number of inputs of which that is known.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    spec: GraphSpec
    limits: BatchLimits
    capacity: int
    max_batch_size: int
    length_input: str | None
    max_length: int | None
    blank_row: Callable[[int], Job] | None
    max_positions: int
    measured_always: bool
    parity_jobs: list[Job]
    instances: int | None = None
    position_step: int = 1
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GraphFile:
    """A graph on disk: a tower of a bundle, or an ONNX file.

    `name` is its name in logs and metrics, unique on this server; `sha256` the
    hash of all that it is made of; `default` what it runs on where nobody says;
    `fp16` whether its weights are.
    """

    name: str
    model: str
    path: Path
    sha256: str
    config: ModelConfig
    default: Provider
    fp16: bool = False


Planner = Callable[[Session, tuple[TensorSpec, ...], tuple[TensorSpec, ...]], GraphPlan]
"""Returns how to run a graph of these inputs and outputs.

Raises BundleError, GraphError if it cannot be served.
"""


@dataclass(frozen=True, slots=True)
class LoadedGraph:
    """A graph in memory, checked and measured, that nobody asks yet."""

    name: str
    engine: Engine
    plan: GraphPlan
    cost: CostModel
    is_on_card: bool

    def serve(self, resources: LoadResources) -> ServedGraph:
        """Put it in service; call this on the event loop."""
        runner = resources.card_runner if self.is_on_card else resources.runner
        queue = runner.add(self.name, self.plan.limits, self.cost, self.engine)
        return ServedGraph(
            runner,
            queue,
            inputs=self.plan.inputs,
            outputs=self.plan.outputs,
            capacity=self.plan.capacity,
        )

    def tensor_model(
        self,
        graph: ServedGraph,
        resources: LoadResources,
        *,
        name: str,
        version: str,
        filename: str,
        about: dict[str, str],
    ) -> TensorModel:
        """Return what answers tensor requests with `graph`, this graph in service."""
        return TensorModel(
            name,
            version,
            graph,
            filename=filename,
            about=about,
            max_batch_size=self.plan.max_batch_size,
            queue_delay_s=self.plan.limits.delay_s,
            instances=self.plan.instances or resources.cores,
            queue_bytes=resources.queue_bytes,
            length_input=self.plan.length_input,
            max_length=self.plan.max_length,
            ranges=self.plan.ranges,
        )


def load_graph(file: GraphFile, planner: Planner, resources: LoadResources) -> LoadedGraph:
    """Load a graph, check it and measure it; slow, for a worker thread.

    Raises BundleError, GraphError and what ONNX Runtime raises.
    """
    try:
        session, engine, plan = load_on_choice(
            file.name,
            resources.providers.choice(file.model, file.config),
            file.default,
            lambda provider: _load_on(provider, file, planner, resources),
        )
        log_nodes(file.name, session)
        cost = _measure(file, session, engine, plan, resources.cores)
    except RunTimedOut as error:
        raise GraphError(
            f"{file.path} was tried on a small input: {error}; if it is only slow, start the "
            "server with a larger --max-batch-s"
        ) from error
    return LoadedGraph(file.name, engine, plan, cost, session.is_on_card)


def _load_on(
    provider: Provider, file: GraphFile, planner: Planner, resources: LoadResources
) -> tuple[Session, Engine, GraphPlan]:
    session = Session(
        file.path,
        file.sha256,
        cores=resources.cores,
        cache=resources.cache,
        provider=provider,
        fp16=file.fp16,
    )
    try:
        inputs, outputs = specs_of(session.inputs), specs_of(session.outputs)
    except UnknownType as error:
        raise BundleError(f"{file.path}: {error}") from error
    plan = planner(session, inputs, outputs)
    if plan.spec.batches and not plan.spec.pads:
        session.fix_batch_sizes(plan.limits.max_rows)
    engine = Engine(file.name, session, plan.spec, resources.watchdog, plan.instances)
    if provider != "cpu" and plan.parity_jobs:
        on_cpu = Session(file.path, file.sha256, cores=1, cache=resources.cache)
        reference = Engine(file.name, on_cpu, plan.spec, resources.watchdog)
        cosine = check_parity(engine, reference, plan.parity_jobs, file.model, provider)
        _log.info("%s: min cosine %.6f on %s to its vectors on cpu", file.name, cosine, provider)
    return session, engine, plan


def _measure(
    file: GraphFile, session: Session, engine: Engine, plan: GraphPlan, cores: int
) -> CostModel:
    guess = CostModel([Sample(1, 1, _GUESS_S)], speedup=1.0)
    if plan.blank_row is None:
        return guess
    try:
        cost = (calibrate_card if session.is_on_card else calibrate)(
            engine,
            plan.blank_row,
            has_lengths=plan.length_input is not None,
            max_rows=plan.limits.max_rows if plan.spec.batches else 1,
            max_positions=plan.max_positions,
            step=plan.position_step,
        )
    except RunTerminated:
        raise
    except Exception as error:
        if plan.measured_always:
            raise GraphError(f"{file.path} does not compute a blank row: {error}") from error
        _log.warning("%s takes no blank rows, so it is not warmed up: %s", file.model, error)
        return guess
    place = "the card" if session.is_on_card else "one core"
    row = f"{file.name}: the shortest row takes {cost.seconds(1, 1) * 1e3:.1f} ms on {place}"
    if cores == 1 or session.is_on_card:
        _log.info("%s", row)
    else:
        _log.info(
            "%s; all %d cores are %.1f times as fast, so %s",
            row,
            cores,
            cost.speedup(rows=1),
            use_of_cores(cost, cores),
        )
    return cost
