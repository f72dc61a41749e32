"""Error statuses: the one map from our errors to google.rpc."""

from contextvars import ContextVar

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from vecserve_server.errors import (
    ComputeFailed,
    DeadlineMissed,
    DuplicateItem,
    FeatureOff,
    InvalidItem,
    LoadFailed,
    ModelNotFound,
    ModelNotReady,
    QueueFull,
    RegionExists,
    RegionNotFound,
    ServingError,
    ShuttingDown,
    TooManyCalls,
)

DOMAIN = "vecserve"

aborted_with: ContextVar[ServingError | None] = ContextVar("aborted_with", default=None)
"""What the present task's RPC was aborted with: grpc's AbortError does not say."""

CODES: dict[type[ServingError], int] = {
    InvalidItem: code_pb2.INVALID_ARGUMENT,
    DuplicateItem: code_pb2.ALREADY_EXISTS,
    ModelNotFound: code_pb2.NOT_FOUND,
    ModelNotReady: code_pb2.UNAVAILABLE,
    RegionNotFound: code_pb2.NOT_FOUND,
    RegionExists: code_pb2.ALREADY_EXISTS,
    LoadFailed: code_pb2.FAILED_PRECONDITION,
    FeatureOff: code_pb2.UNAVAILABLE,
    QueueFull: code_pb2.RESOURCE_EXHAUSTED,
    TooManyCalls: code_pb2.RESOURCE_EXHAUSTED,
    DeadlineMissed: code_pb2.DEADLINE_EXCEEDED,
    ShuttingDown: code_pb2.UNAVAILABLE,
    ComputeFailed: code_pb2.INTERNAL,
}


def to_status(error: ServingError) -> status_pb2.Status:
    """Return the google.rpc.Status of an error, with ErrorInfo and, where due, RetryInfo."""
    details = [error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)]
    if isinstance(error, QueueFull | TooManyCalls):
        delay = duration_pb2.Duration()
        delay.FromMicroseconds(int(error.retry_after_s * 1e6))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    status = status_pb2.Status(code=CODES[type(error)], message=error.message)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


async def abort(context: grpc.aio.ServicerContext, error: ServingError) -> None:
    """End the RPC with the error's status. Never returns: raises grpc's AbortError."""
    aborted_with.set(error)
    status = rpc_status.to_status(to_status(error))
    await context.abort(status.code, status.details, status.trailing_metadata)


def code_name(error: ServingError) -> str:
    """Return the name of the error's google.rpc code, such as INVALID_ARGUMENT."""
    name: str = code_pb2.Code.Name(CODES[type(error)])
    return name
