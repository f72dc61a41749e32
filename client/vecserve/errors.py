"""Exceptions of the client, in one tree.

    VecserveError
    ├── ServerUnavailable   no server there, or it shut down or was lost: start one, try again
    ├── DeadlineExceeded    not all answered within `timeout`
    ├── ModelNotFound       no such model or version: see `models()`
    ├── InvalidRequest      the server refused what was asked: change it
    ├── ServerError         the server failed, or is no vecserve server
    └── EmbedError          some items failed; holds which, why, and the rest

Wrong arguments (a number among the items, an unknown pooling) raise TypeError
or ValueError, as anywhere in Python.
"""

from __future__ import annotations

import grpc
from google.rpc import status_pb2

from vecserve._failures import ItemFailure, VecserveError, reason_of
from vecserve._results import EmbedError

__all__ = [
    "DeadlineExceeded",
    "EmbedError",
    "InvalidRequest",
    "ItemFailure",
    "ModelNotFound",
    "ServerError",
    "ServerUnavailable",
    "VecserveError",
]

_STATUS_KEY = "grpc-status-details-bin"
"""Trailing metadata in which gRPC servers send a google.rpc.Status."""

_TOO_OLD = "max connection age"
"""What gRPC says when a server with --max-connection-age-s cuts a call off."""

_LOST = ("Stream removed", "Socket closed", "Broken pipe", "Connection reset", "stream ended")
"""What gRPC, and `vecserve.aio`, say of a connection that broke during a call."""

_OUR_DOING = ("Locally cancelled", "Channel closed")
"""What gRPC says of a call that was cancelled on this side."""

_NO_SERVER = "start one with `vecserve-server`, or name another address"

_AGAIN = "embedding keeps no state, so what has no result may be sent again"


class ServerUnavailable(VecserveError):
    """No server answers at the address, it is shutting down, or the connection ended.

    `unanswered` is how many items of a stream were taken and got no answer. They
    may be sent again: embedding keeps no state.
    """

    def __init__(self, message: str, unanswered: int = 0) -> None:
        super().__init__(message)
        self.unanswered = unanswered


class DeadlineExceeded(VecserveError):
    """The `timeout` passed before the last answer."""


class ModelNotFound(VecserveError):
    """The server has no such model or version."""


class InvalidRequest(VecserveError):
    """The server refused the request as a whole."""


class ServerError(VecserveError):
    """The server failed. `code` is the name of the gRPC status code."""

    def __init__(self, message: str, code: str = "UNKNOWN") -> None:
        super().__init__(message)
        self.code = code


def from_rpc(address: str, error: grpc.RpcError, unanswered: int = 0) -> VecserveError:
    """Turn a failed RPC to the server at `address` into an error of the tree."""
    code, details = error.code(), error.details() or "no details"
    lost = f"; items without an answer: {unanswered}" if unanswered else ""
    match code:
        case grpc.StatusCode.UNAVAILABLE if _from_vecserve(error):
            return ServerUnavailable(f"{address}: {details}{lost}", unanswered)
        case grpc.StatusCode.UNAVAILABLE if _TOO_OLD in details:
            return ServerUnavailable(
                f"{address} ended the connection for its age{lost}: its --max-connection-age-s and "
                f"--shutdown-grace-s passed while the call was open; {_AGAIN} by a new call",
                unanswered,
            )
        case grpc.StatusCode.UNAVAILABLE if any(sign in details for sign in _LOST):
            return ServerUnavailable(
                f"the connection to {address} was lost{lost}: {_AGAIN} once a server is there "
                f"({details})",
                unanswered,
            )
        case grpc.StatusCode.UNAVAILABLE:
            return ServerUnavailable(
                f"no server answers at {address}{lost}: {_NO_SERVER} ({details})",
                unanswered,
            )
        # gRPC's own status for a call that reached a server which had just stopped accepting.
        case grpc.StatusCode.CANCELLED if not any(sign in details for sign in _OUR_DOING):
            return ServerUnavailable(
                f"{address} cancelled the call{lost}, as a server does that shuts down: {_AGAIN} "
                f"once a server is there ({details})",
                unanswered,
            )
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceeded(
                f"{address} did not answer within the timeout{lost}: allow more, or send less"
            )
        case grpc.StatusCode.NOT_FOUND:
            return ModelNotFound(f"{details}{lost}")
        case grpc.StatusCode.INVALID_ARGUMENT:
            return InvalidRequest(f"{details}{lost}")
        case grpc.StatusCode.UNIMPLEMENTED:
            return ServerError(
                f"the server at {address} does not speak vecserve.v1: name another address "
                f"({details})",
                code.name,
            )
    return ServerError(f"{address}: {details} ({code.name}){lost}", code.name)


def no_server(address: str) -> ServerUnavailable:
    """Return the error of a call in whose `timeout` no connection could be made."""
    return ServerUnavailable(f"no server answered at {address} within the timeout: {_NO_SERVER}")


def still_loading(address: str, models: str, unanswered: int) -> DeadlineExceeded:
    """Return the error of a call whose `timeout` passed before its models were loaded."""
    return DeadlineExceeded(
        f"{address} was still loading {models} when the timeout passed; items without an answer: "
        f"{unanswered}: allow more"
    )


def _from_vecserve(error: grpc.RpcError) -> bool:
    """Whether the server itself sent the status, rather than gRPC on this side."""
    for key, value in error.trailing_metadata() or ():
        if key == _STATUS_KEY:
            return bool(reason_of(status_pb2.Status.FromString(value).details))
    return False
