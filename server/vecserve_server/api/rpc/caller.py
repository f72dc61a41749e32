"""Who asks, and until when the answer is wanted."""

import time
from dataclasses import dataclass

import grpc


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
