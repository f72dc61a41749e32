"""Tensor model: a graph served for the tensors it takes and gives."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from vecserve_server.engine.engine import Job
from vecserve_server.engine.tensors import BYTES, TensorSpec
from vecserve_server.errors import ComputeFailed, InvalidItem, ServingError
from vecserve_server.reasons import Reason
from vecserve_server.serving.budget import ByteBudget
from vecserve_server.serving.graph import ServedGraph
from vecserve_server.serving.request import (
    Array,
    TensorHeader,
    TensorRequest,
    check_inputs,
    check_names,
)
from vecserve_server.telemetry.statistics import Statistics
from vecserve_server.telemetry.timings import Timings

# As long as going over them takes less than handing them to a thread: 100 us.
_QUICK_BYTES = 1 << 20


class TensorModel:
    """A graph that answers tensor requests. A request's rows run together, never split.

    `length_input` is the input whose axis 1 is a row's length, where there is
    one; `max_length` bounds it. `ranges` are the least and the greatest number
    that an input may hold, where that is known.
    """

    platform = "onnxruntime_onnx"
    backend = "onnxruntime"
    optional_inputs = False

    def __init__(
        self,
        name: str,
        version: str,
        graph: ServedGraph,
        *,
        filename: str,
        about: dict[str, str],
        max_batch_size: int,
        queue_delay_s: float,
        instances: int,
        queue_bytes: int,
        length_input: str | None = None,
        max_length: int | None = None,
        ranges: Mapping[str, tuple[float, float]] = MappingProxyType({}),
    ) -> None:
        self.name = name
        self.version = version
        self.filename = filename
        self.about = about
        self.inputs = graph.inputs
        self.outputs = graph.outputs
        self.max_batch_size = max_batch_size
        self.queue_delay_s = queue_delay_s
        self.instances = instances
        self.statistics = Statistics()
        self._graph = graph
        self._length_input = length_input
        self._max_length = max_length
        self._ranges = ranges
        self._budget = ByteBudget(queue_bytes)

    def check(self, inputs: Mapping[str, TensorHeader], outputs: Sequence[str]) -> int:
        """Return how many rows a request has: ServedModel.check. Raises InvalidItem."""
        rows = check_inputs(inputs, self.inputs, self.max_batch_size)
        check_names(outputs, self.outputs, "output")
        if self._length_input is not None and self._max_length is not None:
            length = inputs[self._length_input].shape[1]
            if length > self._max_length:
                raise InvalidItem(
                    Reason.TEXT_TOO_LONG,
                    f"input {self._length_input!r} has {length} positions, the model takes "
                    f"{self._max_length}: cut the end off",
                )
        return rows

    async def infer(self, request: TensorRequest, timings: Timings) -> dict[str, Array]:
        """Run a request on the graph: ServedModel.infer.

        Raises InvalidItem, QueueFull, DeadlineMissed, ComputeFailed.
        """
        feeds = {spec.name: _feed(spec, request) for spec in self.inputs}
        outputs = request.outputs or tuple(spec.name for spec in self.outputs)
        size = sum(feed.nbytes for feed in feeds.values())
        if not request.waits:
            self._budget.refuse_if_full(size, self._graph.wait_s(request.job_options.caller))
        if size > _QUICK_BYTES:
            await asyncio.to_thread(self._check_ranges, feeds)
        else:
            self._check_ranges(feeds)
        job = Job(feeds, request.rows, self._positions(feeds), outputs)
        with self._graph.unanswered(request.rows):
            queued = time.perf_counter()
            async with self._budget.hold(size):
                outcome = await self._graph.run(job, request.job_options)
        timings.queue_s = outcome.started_s - queued
        timings.compute_s = outcome.ended_s - outcome.started_s
        timings.batch_size = outcome.batch_rows
        timings.batches = {outcome.started_s: outcome.batch_rows}
        if isinstance(outcome.outputs, Exception):
            raise _failure(outcome.outputs) from outcome.outputs
        return {name: _to_bytes(values) for name, values in outcome.outputs.items()}

    def _check_ranges(self, feeds: dict[str, Array]) -> None:
        """Raise InvalidItem for numbers that would fail a batch, or come to a wrong vector."""
        for name, (least, most) in self._ranges.items():
            numbers: npt.NDArray[Any] = feeds[name]
            if not numbers.size:
                continue
            low, high = numbers.min(), numbers.max()
            # Written so that NaN is caught, too.
            if not (least <= low and high <= most):
                raise InvalidItem(
                    Reason.OUT_OF_RANGE,
                    f"input {name!r} holds numbers from {low} to {high}, the model takes "
                    f"{least:.10g} to {most:.10g}",
                )

    def _positions(self, feeds: dict[str, Array]) -> int:
        if self._length_input is None:
            return 1
        mask = feeds[self._length_input]
        length: int = mask.shape[1]
        # Of a bundle it is known that such rows come to NaN.
        if self._max_length is not None and not mask.any(axis=1).all():
            raise InvalidItem(
                Reason.EMPTY_MASK,
                f"input {self._length_input!r} has a row of zeros only: mark at least one position",
            )
        return max(length, 1)


def length_input_of(inputs: Sequence[TensorSpec], mask: str | None) -> str | None:
    """Return the input whose axis 1 is a row's length: the mask, or else the first of [-1, -1]."""
    names = [
        spec.name for spec in inputs if len(spec.shape) == 2 and not isinstance(spec.shape[1], int)
    ]
    if mask in names:
        return mask
    return names[0] if names else None


def _feed(spec: TensorSpec, request: TensorRequest) -> Array:
    """Return an input as ONNX Runtime wants it: strings as str."""
    values = request.inputs[spec.name].values
    if spec.datatype is not BYTES:
        return values
    strings = []
    for index, element in enumerate(values.ravel().tolist()):
        try:
            strings.append(element.decode())
        except UnicodeDecodeError as error:
            raise InvalidItem(
                Reason.NOT_UTF8, f"element {index} of input {spec.name!r} is not UTF-8: {error}"
            ) from error
    return _objects(strings, values.shape)


def _failure(error: Exception) -> ServingError:
    """Return the error of a request that ONNX Runtime failed on, run alone."""
    # By ONNX Runtime's own words, since it has no types for them: Gather's, and Add's.
    if "out of data bounds" in str(error):
        return InvalidItem(
            Reason.OUT_OF_RANGE,
            "an input holds a number that the model has no entry for, such as a token id outside "
            "its vocabulary, or has more positions than the model",
        )
    if "Attempting to broadcast an axis" in str(error):
        return InvalidItem(
            Reason.WRONG_SHAPE,
            "the model cannot compute inputs of this length, such as more positions than it has",
        )
    return ComputeFailed(Reason.COMPUTE_FAILED, f"the model failed on this request: {error}")


def _to_bytes(values: Array) -> Array:
    if values.dtype != np.object_:
        return values
    return _objects([element.encode() for element in values.ravel().tolist()], values.shape)


def _objects(elements: list[Any], shape: tuple[int, ...]) -> Array:
    array = np.empty(len(elements), dtype=np.object_)
    array[:] = elements
    return array.reshape(shape)
