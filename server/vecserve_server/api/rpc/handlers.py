"""Unary methods: malformed requests and our errors become statuses."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc
from google.protobuf.message import Message

from vecserve_server.api.rpc.drain import Drain
from vecserve_server.api.rpc.parse import Malformed, parser
from vecserve_server.api.rpc.status import abort
from vecserve_server.errors import InvalidItem, ServingError

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)


def unary(
    drain: Drain,
    request_type: type[Request],
    method: Callable[[Request, grpc.aio.ServicerContext], Awaitable[Response]],
) -> grpc.RpcMethodHandler:
    """Return a handler, behind the drain, that turns what goes wrong into statuses."""

    async def handle(
        request: Request | Malformed, context: grpc.aio.ServicerContext
    ) -> Response | None:
        try:
            if isinstance(request, Malformed):
                raise InvalidItem(
                    "MALFORMED_MESSAGE",
                    f"the request is no {request_type.DESCRIPTOR.full_name}: {request.why}",
                )
            return await method(request, context)
        except ServingError as error:
            await abort(context, error)
            return None

    return grpc.unary_unary_rpc_method_handler(
        drain.guard(handle), parser(request_type), lambda response: response.SerializeToString()
    )
