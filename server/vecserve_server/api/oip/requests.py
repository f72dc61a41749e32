"""Inference handler: one ModelInferRequest in, one response out, counted."""

import asyncio
import time
from functools import partial

from vecserve_server.api.oip.inputs import QUICK_BYTES
from vecserve_server.api.oip.messages import shared_outputs, to_request, to_response
from vecserve_server.api.oip.shared_memory import Regions
from vecserve_server.api.oip.stubs import grpc_service_pb2 as pb
from vecserve_server.api.rpc.answering import answering, count_refused
from vecserve_server.api.rpc.caller import Caller
from vecserve_server.api.rpc.parsing import in_thread
from vecserve_server.errors import DeadlineMissed, ServingError
from vecserve_server.models.registry import ModelRegistry
from vecserve_server.reasons import Reason
from vecserve_server.serving.model import ServedModel
from vecserve_server.telemetry.metrics import Metrics
from vecserve_server.telemetry.statistics import RequestTimings
from vecserve_server.telemetry.timings import Timings


class InferHandler:
    """Answers requests on tensors."""

    def __init__(self, registry: ModelRegistry, regions: Regions, metrics: Metrics) -> None:
        self._registry = registry
        self._regions = regions
        self._metrics = metrics

    async def handle(
        self, request: pb.ModelInferRequest, caller: Caller, *, waits: bool
    ) -> pb.ModelInferResponse:
        """Run one request. With `waits` it waits where much waits already. Raises ServingError."""
        timings = Timings()
        try:
            model = self._registry.find(request.model_name, request.model_version)
        except ServingError as error:
            count_refused(self._metrics, error)
            raise
        model.statistics.accepted()
        started = time.perf_counter()
        try:
            with answering(self._metrics, model.name, timings, "request"):
                return await self._run(model, request, caller, timings, waits=waits)
        except ServingError:
            model.statistics.failed(time.perf_counter() - started)
            raise

    async def _run(
        self,
        model: ServedModel,
        request: pb.ModelInferRequest,
        caller: Caller,
        timings: Timings,
        *,
        waits: bool,
    ) -> pb.ModelInferResponse:
        started = time.perf_counter()
        wanted = await to_request(request, model, self._regions, caller, waits=waits)
        shared = shared_outputs(request, self._regions)
        read_s = time.perf_counter() - started
        try:
            async with asyncio.timeout(wanted.job_options.deadline.remaining_s):
                outputs = await model.infer(wanted, timings)
        except TimeoutError as error:
            raise DeadlineMissed(
                Reason.DEADLINE_MISSED, "the request took longer than its timeout allows"
            ) from error
        timings.prepare_s = (timings.prepare_s or 0.0) + read_s
        computed = time.perf_counter()
        respond = partial(to_response, request, model, outputs, shared)
        size = sum(values.nbytes for values in outputs.values())
        is_long = bool(shared) and size > QUICK_BYTES
        response = await in_thread(respond, caller.peer) if is_long else respond()
        ended = time.perf_counter()
        model.statistics.succeeded(
            wanted.rows,
            ended - started,
            RequestTimings(
                input_s=timings.prepare_s,
                queue_s=timings.queue_s or 0.0,
                infer_s=timings.compute_s or 0.0,
                output_s=ended - computed,
                batches=timings.batches,
            ),
        )
        return response
