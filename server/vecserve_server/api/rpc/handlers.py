"""Method handlers: requests to their methods, and errors of any kind to statuses."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import grpc
from google.protobuf.message import Message

from vecserve_server.api.rpc.parsing import parse
from vecserve_server.api.rpc.status import abort
from vecserve_server.errors import ComputeFailed, ServingError, drop_tracebacks
from vecserve_server.reasons import Reason

_log = logging.getLogger(__name__)

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)


def unary(
    request_type: type[Request],
    method: Callable[[Request, grpc.aio.ServicerContext], Awaitable[Response]],
) -> grpc.RpcMethodHandler:
    """Return the handler of a method that takes one request and gives one response."""

    async def handle(data: bytes, context: grpc.aio.ServicerContext) -> Response | None:
        try:
            return await method(await parse(request_type, data, context), context)
        except Exception as error:
            problem = to_serving_error(error, "request")
            drop_tracebacks(error)
            await abort(context, problem)
            return None

    return grpc.unary_unary_rpc_method_handler(handle, None, _serialize)


def stream(
    method: Callable[[grpc.aio.ServicerContext], Awaitable[None]],
) -> grpc.RpcMethodHandler:
    """Return the handler of a method that reads bytes from its context and writes messages."""

    async def handle(_: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> None:
        try:
            await method(context)
        except Exception as error:
            problem = to_serving_error(error, "stream")
            drop_tracebacks(error)
            await abort(context, problem)

    return grpc.stream_stream_rpc_method_handler(handle, None, _serialize)


def to_serving_error(error: Exception, what: str, model: str = "") -> ServingError:
    """Return an error as ours; log what is not, a failure of `what`, sent to `model`."""
    if isinstance(error, ServingError):
        return error
    sent = f"{what} to model {model}" if model else what
    _log.error("a %s failed in an unforeseen way", sent, exc_info=error)
    return ComputeFailed(Reason.UNFORESEEN, f"the server failed on this {what}; its log says how")


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()
