"""Interceptors of the server's calls: what stands before every method of both protocols.

Today there is the one that counts calls for the drain; authentication, limits and
tracing join here, as grpc.aio.ServerInterceptor, and no servicer knows of them.
"""

from collections.abc import Awaitable, Callable, Collection

import grpc

from vecserve_server.api.rpc.drain import Drain, Method


class DrainInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Counts the calls of some services in and out; refuses them once the server drains.

    Others, health and reflection among them, answer until the end.
    """

    def __init__(self, drain: Drain, services: Collection[str]) -> None:
        self._drain = drain
        self._services = frozenset(services)
        # By method: wrapped once, not at every call.
        self._handlers: dict[str, grpc.RpcMethodHandler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        """Return the handler of a method, counted if its service is."""
        method = handler_call_details.method
        if method in self._handlers:
            return self._handlers[method]
        handler = await continuation(handler_call_details)
        _, _, service_and_name = method.partition("/")
        if handler is None or service_and_name.partition("/")[0] not in self._services:
            return handler
        return self._handlers.setdefault(method, _wrap(handler, self._drain.guard))


def _wrap(
    handler: grpc.RpcMethodHandler, wrapper: Callable[[Method], Method]
) -> grpc.RpcMethodHandler:
    """Return a handler whose method is wrapped; it is of one of the kinds that we have."""
    if handler.unary_unary:
        return grpc.unary_unary_rpc_method_handler(
            wrapper(handler.unary_unary), handler.request_deserializer, handler.response_serializer
        )
    return grpc.stream_stream_rpc_method_handler(
        wrapper(handler.stream_stream), handler.request_deserializer, handler.response_serializer
    )
