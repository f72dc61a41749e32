"""gRPC server: port, options, interceptors, health, reflection and drain of all services."""

import time
from collections.abc import Mapping

import grpc
from grpc_health.v1 import health_pb2_grpc

from vecserve_server.api.rpc import health
from vecserve_server.api.rpc.calls import Calls
from vecserve_server.api.rpc.drain import Drain
from vecserve_server.api.rpc.interceptors import CallInterceptor
from vecserve_server.api.rpc.options import server_options
from vecserve_server.api.rpc.reflection import reflection_handlers
from vecserve_server.config import ServerConfig
from vecserve_server.errors import StartError
from vecserve_server.telemetry.metrics import Metrics


class RpcServer:
    """Serves `services`, handlers by full name, with health and reflection beside them."""

    def __init__(
        self,
        config: ServerConfig,
        services: Mapping[str, grpc.GenericRpcHandler],
        drain: Drain,
        health_of: health.Health,
        metrics: Metrics,
    ) -> None:
        self._address = f"{config.host}:{config.port}"
        self._grace_s = config.shutdown_grace_s
        self._drain = drain
        self._server = grpc.aio.server(
            options=server_options(config),
            interceptors=[CallInterceptor(drain, Calls(metrics, config.max_calls), services)],
        )
        health_pb2_grpc.add_HealthServicer_to_server(health_of, self._server)
        names = (*services, health.SERVICE)
        self._server.add_generic_rpc_handlers(
            (*services.values(), *reflection_handlers(names, drain))
        )

    def bind(self) -> int:
        """Take the port and return it. Raises StartError."""
        try:
            port: int = self._server.add_insecure_port(self._address)
        except RuntimeError as error:
            raise StartError(
                f"cannot listen on {self._address}; is another server there? choose one with --port"
            ) from error
        return port

    async def start(self) -> None:
        """Answer calls."""
        await self._server.start()

    async def stop(self) -> None:
        """Accept no new calls and answer those that are in, within the grace that is set."""
        end_s = time.monotonic() + self._grace_s
        await self._drain.close(self._grace_s)
        await self._server.stop(max(end_s - time.monotonic(), 0))
