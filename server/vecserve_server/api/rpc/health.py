"""Health of the server and of each model, as grpc.health.v1 says it."""

from collections.abc import Mapping

from grpc_health.v1 import health, health_pb2

SERVICE: str = health.SERVICE_NAME


class Health:
    """Whether each name answers. Lives on one event loop; `servicer` is the service."""

    def __init__(self) -> None:
        self.servicer = health.aio.HealthServicer()
        self._told: dict[str, bool] = {}

    async def set(self, serving: Mapping[str, bool]) -> None:
        """Say of each name whether it answers, where that has changed. Watchers are told."""
        status = health_pb2.HealthCheckResponse
        for name, now in serving.items():
            if self._told.get(name) is not now:
                self._told[name] = now
                await self.servicer.set(name, status.SERVING if now else status.NOT_SERVING)
