"""Served model interface: what answers tensor requests, whatever is behind it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from vecserve_server.engine.tensors import TensorSpec
from vecserve_server.serving.graph import ServedGraph
from vecserve_server.serving.request import Array, TensorHeader, TensorRequest
from vecserve_server.telemetry.statistics import Statistics
from vecserve_server.telemetry.timings import Timings


class ServedModel(Protocol):
    """One version of something that tensor requests can name. Lives on one event loop.

    `max_batch_size` is the rows a request may have, 0 where the first axis is
    no batch; `optional_inputs` whether a request may leave inputs out;
    `queue_delay_s` how long it may be held back for batch-mates; `instances` how
    many batches may run at a time; `about` what else there is to say.
    """

    name: str
    version: str
    platform: str
    backend: str
    filename: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch_size: int
    optional_inputs: bool
    queue_delay_s: float
    instances: int
    about: dict[str, str]
    statistics: Statistics

    def check(self, inputs: Mapping[str, TensorHeader], outputs: Sequence[str]) -> int:
        """Return how many rows a request has, before its elements are read. Raises InvalidItem."""
        ...

    async def infer(self, request: TensorRequest, timings: Timings) -> dict[str, Array]:
        """Return the outputs that a request wants; fill in `timings`.

        BYTES outputs are object arrays of bytes. Raises ServingError.
        """
        ...


@dataclass(frozen=True, slots=True)
class InService:
    """What one version of a model on disk is served by: a model for each name it goes by."""

    models: dict[str, ServedModel]
    graphs: tuple[ServedGraph, ...]
