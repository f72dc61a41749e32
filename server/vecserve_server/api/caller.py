"""Who asks, and until when the answer is wanted."""

import time
from dataclasses import dataclass

import grpc

from vecserve.v1 import embedding_pb2
from vecserve_server.errors import InvalidItem
from vecserve_server.scheduling.entry import Lane, Terms

_LANES = {
    embedding_pb2.PRIORITY_UNSPECIFIED: None,
    embedding_pb2.PRIORITY_INTERACTIVE: Lane.INTERACTIVE,
    embedding_pb2.PRIORITY_BULK: Lane.BULK,
}


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom fairness is between: a connection, or one stream of it.

    `deadline_s`, of time.perf_counter(), is the RPC's; None without one.
    """

    name: str
    deadline_s: float | None


def caller_of(context: grpc.aio.ServicerContext, stream: int | None = None) -> Caller:
    """Return who is behind an RPC; streams are numbered, each is a caller of its own."""
    remaining_s = context.time_remaining()
    deadline_s = None if remaining_s is None else time.perf_counter() + remaining_s
    name = context.peer() if stream is None else f"{context.peer()}#{stream}"
    return Caller(name, deadline_s)


def to_terms(options: embedding_pb2.EmbedOptions, caller: Caller) -> Terms:
    """Return on what terms an item waits: the earlier of the RPC's deadline and its own timeout.

    Raises InvalidItem for a priority we do not know or a timeout that is not positive.
    """
    if options.priority not in _LANES:
        raise InvalidItem(
            "UNKNOWN_VALUE", f"priority has the value {options.priority}; this server knows 0 to 2"
        )
    deadlines = [] if caller.deadline_s is None else [caller.deadline_s]
    if options.HasField("timeout"):
        timeout_s = options.timeout.ToNanoseconds() / 1e9
        if timeout_s <= 0:
            raise InvalidItem("TIMEOUT_INVALID", f"timeout is {timeout_s} s: make it positive")
        deadlines.append(time.perf_counter() + timeout_s)
    return Terms(caller.name, _LANES[options.priority], min(deadlines, default=None))
