"""Health of the server and of each model, as grpc.health.v1 says it."""

import asyncio
from collections.abc import Mapping

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from vecserve_server.api.rpc.status import abort
from vecserve_server.errors import ShuttingDown
from vecserve_server.reasons import Reason

SERVICE: str = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # grpc has no types
    """Whether each name answers. Lives on one event loop.

    Not grpc_health's servicer: its watches last until the client leaves, and gRPC's stop waits
    for them.
    """

    def __init__(self) -> None:
        self._serving: dict[str, bool] = {}
        self._closed = False
        # Set, and replaced, at every change.
        self._change = asyncio.Event()

    def set(self, serving: Mapping[str, bool]) -> None:
        """Say of each name whether it answers; after `close`, none does. Watchers are told."""
        self._serving |= {name: now and not self._closed for name, now in serving.items()}
        self._change.set()
        self._change = asyncio.Event()

    def close(self) -> None:
        """Say that nothing answers any more, and end the watches."""
        self._closed = True
        self.set(self._serving)

    async def Check(
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        """Say whether a name answers; NOT_FOUND if there is none of that name."""
        if request.service not in self._serving:
            await context.abort(grpc.StatusCode.NOT_FOUND)
        return self._response(request.service)

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext
    ) -> None:
        """Say whether a name answers, at once and at every change."""
        told = None
        # One who comes when it is over learns nothing: a client that did would ask again at once.
        while not (self._closed and told is None):
            change = self._change
            response = self._response(request.service)
            if response != told:
                await context.write(response)
                told = response
            if self._closed:
                break
            await change.wait()
        why = "the server is shutting down: watch another"
        await abort(context, ShuttingDown(Reason.SHUTTING_DOWN, why))

    def _response(self, name: str) -> health_pb2.HealthCheckResponse:
        statuses = health_pb2.HealthCheckResponse
        if name not in self._serving:
            return statuses(status=statuses.SERVICE_UNKNOWN)
        return statuses(status=statuses.SERVING if self._serving[name] else statuses.NOT_SERVING)
