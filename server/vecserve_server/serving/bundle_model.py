"""Bundle model: raw items to vectors, as typed items or as elements of BYTES tensors."""

import asyncio
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np

from vecserve_server.engine.tensors import BYTES, FP32, TensorSpec
from vecserve_server.errors import InvalidItem, ServingError
from vecserve_server.modalities.content import Content
from vecserve_server.reasons import Reason
from vecserve_server.repository.manifest import Manifest
from vecserve_server.serving.request import (
    Array,
    TensorHeader,
    TensorRequest,
    check_datatype,
    check_names,
    check_rows,
)
from vecserve_server.serving.tower import Embedded, ServedTower
from vecserve_server.telemetry.statistics import Statistics
from vecserve_server.telemetry.timings import Timings

OUTPUT = "embedding"
# Rows of one request: each is prepared and queued by itself, as an item of
# vecserve.v1 is, so this only bounds what one message may hold.
MAX_ROWS = 256


class BundleModel:
    """A bundle that answers items, typed or as elements of BYTES tensors. `towers` by kind."""

    platform = "vecserve"
    backend = "vecserve"
    filename = ""

    def __init__(
        self,
        manifest: Manifest,
        towers: dict[str, ServedTower],
        *,
        queue_delay_s: float,
        instances: int,
    ) -> None:
        self.name = manifest.name
        self.version = manifest.version
        self.about = describe(manifest)
        self.inputs = tuple(TensorSpec(kind, BYTES, (None, 1)) for kind in towers)
        self.outputs: tuple[TensorSpec, ...] = (
            TensorSpec(OUTPUT, FP32, (None, manifest.dimensions)),
        )
        self.max_batch_size = MAX_ROWS
        self.optional_inputs = len(towers) > 1
        self.queue_delay_s = queue_delay_s
        self.instances = instances
        self.statistics = Statistics()
        self._towers = towers
        # By name of an input. What metadata does not list comes last: the kind's own goes first.
        self._makers: dict[str, Callable[[bytes], Content]] = {}
        for tower in towers.values():
            self._makers |= tower.modality.further_inputs
        self._makers |= {kind: tower.modality.from_bytes for kind, tower in towers.items()}

    def tower_for(self, content: Content) -> ServedTower:
        """Return the tower that takes this content. Raises InvalidItem if there is none."""
        for tower in self._towers.values():
            if isinstance(content, tower.modality.accepts):
                return tower
        advice = "ListModels says which model takes what"
        if self._takes(content.with_frames(1)):
            advice = "set `frames` to how many of its frames are to be embedded as images"
        raise InvalidItem(
            Reason.WRONG_MODALITY,
            f"model {self.name!r} takes {' and '.join(self._towers)}, not {content.described}: "
            f"{advice}",
        )

    def _takes(self, content: Content) -> bool:
        return any(isinstance(content, own.modality.accepts) for own in self._towers.values())

    @contextmanager
    def accept(self, fields: Mapping[str | None, int], caller: Hashable) -> Iterator[None]:
        """Count a call's items, by their field of content, as unanswered meanwhile.

        Raises if they cannot be taken now: InvalidItem if never, else QueueFull.
        """
        with ExitStack() as counted:
            for tower in self._towers.values():
                own = tower.modality.fields.keys() | tower.modality.further_inputs.keys()
                items = sum(fields.get(field, 0) for field in own)
                if items:
                    tower.graph.refuse_if_full(items, caller)
                    counted.enter_context(tower.graph.unanswered(items))
            yield

    def check(self, inputs: Mapping[str, TensorHeader], outputs: Sequence[str]) -> int:
        """Return how many rows a request has: ServedModel.check. Raises InvalidItem."""
        known = tuple(TensorSpec(name, BYTES, (None, 1)) for name in self._makers)
        check_names(list(inputs), known, "input")
        check_names(outputs, self.outputs, "output")
        if len(inputs) != 1:
            raise InvalidItem(
                Reason.ONE_INPUT,
                f"the request has {len(inputs)} inputs: send one of "
                f"{', '.join(spec.name for spec in self.inputs)}",
            )
        [(kind, header)] = inputs.items()
        check_datatype(kind, header, next(spec for spec in known if spec.name == kind))
        shape = header.shape
        if not (len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)):
            raise InvalidItem(
                Reason.WRONG_SHAPE,
                f"input {kind!r} has shape {list(shape)}, the model takes [-1, 1] or [-1]",
            )
        check_rows(shape[0], self.max_batch_size)
        return shape[0]

    async def infer(self, request: TensorRequest, timings: Timings) -> dict[str, Array]:
        """Embed every row: ServedModel.infer. The first row that fails fails the request.

        Raises InvalidItem, QueueFull, DeadlineMissed, ComputeFailed.
        """
        [(kind, tensor)] = request.inputs.items()
        frames = request.options.frames
        elements = tensor.values.ravel().tolist()
        contents = [
            _content(self._makers[kind], index, data) for index, data in enumerate(elements)
        ]
        if frames:
            contents = [content.with_frames(frames) for content in contents]
        tower = self.tower_for(contents[0])
        if not request.waits:
            tower.graph.refuse_if_full(len(contents), request.job_options.caller)
        by_row = [Timings() for _ in contents]
        with tower.graph.unanswered(len(contents)):
            tasks = [
                asyncio.create_task(tower.embed(content, request.options, request.job_options, row))
                for content, row in zip(contents, by_row, strict=True)
            ]
            try:
                embedded = [await _row(index, task) for index, task in enumerate(tasks)]
            finally:
                for task in tasks:
                    task.cancel()
                # Whatever else failed is nobody's news any more.
                await asyncio.gather(*tasks, return_exceptions=True)
        started = time.perf_counter()
        vectors = _stack(embedded)
        _sum_up(by_row, timings)
        timings.prepare_s = (timings.prepare_s or 0.0) + time.perf_counter() - started
        return {OUTPUT: vectors}


def describe(manifest: Manifest) -> dict[str, str]:
    """Return what a manifest says that a caller may want to know."""
    return {
        "description": manifest.description,
        "license": manifest.license,
        "trained": "true" if manifest.trained else "false",
        "precision": manifest.precision,
    }


def _content(make: Callable[[bytes], Content], index: int, data: bytes) -> Content:
    try:
        return make(data)
    except InvalidItem as error:
        error.message = f"item {index}: {error.message}"
        raise


async def _row(index: int, task: "asyncio.Task[Embedded]") -> Embedded:
    try:
        return await task
    except ServingError as error:
        error.message = f"item {index}: {error.message}"
        raise


def _stack(embedded: list[Embedded]) -> Array:
    """Return the items' vectors as float32 [batch, ...]. Raises InvalidItem if shapes differ."""
    items = [np.concatenate([vector.values for vector in item.vectors]) for item in embedded]
    if len({item.shape for item in items}) > 1:
        raise InvalidItem(
            Reason.SHAPES_DIFFER,
            "without pooling the items have different numbers of vectors: send one a request",
        )
    return np.stack(items)


def _sum_up(by_row: list[Timings], timings: Timings) -> None:
    """Take a request's timings from the row that took longest, and the batches from all."""
    slowest = max(
        by_row, key=lambda row: (row.prepare_s or 0) + (row.queue_s or 0) + (row.compute_s or 0)
    )
    timings.prepare_s = slowest.prepare_s
    timings.queue_s = slowest.queue_s
    timings.compute_s = slowest.compute_s
    timings.batch_size = slowest.batch_size
    for row in by_row:
        timings.batches |= row.batches
