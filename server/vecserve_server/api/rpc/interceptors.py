"""Interceptors of the server's calls: what stands before every method of both protocols.

Today there is the one that counts calls and drains them; authentication, limits and
tracing join here, as grpc.aio.ServerInterceptor, and no servicer knows of them.
"""

from collections.abc import Awaitable, Callable, Collection

import grpc

from vecserve_server.api.rpc.calls import Calls
from vecserve_server.api.rpc.drain import Drain, Method


class CallInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Counts the calls of some services in and out, bounds them, and refuses them in a drain.

    Others, health and reflection among them, answer until the end, however many call.
    """

    def __init__(self, drain: Drain, calls: Calls, services: Collection[str]) -> None:
        self._drain = drain
        self._calls = calls
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
        name = method.removeprefix("/")
        if handler is None:
            self._calls.unknown()
            return handler
        if name.partition("/")[0] not in self._services:
            return handler

        def guard(inner: Method) -> Method:
            return self._calls.guard(name, self._drain.guard(inner))

        return self._handlers.setdefault(method, _wrap(handler, guard))


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
