"""Caller identity and deadline of an RPC."""

from dataclasses import dataclass

import grpc

from vecserve_server.scheduling.deadline import NO_DEADLINE, Deadline


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom fairness is between: a connection, or one stream of it. `deadline` is the RPC's."""

    name: str
    deadline: Deadline


def caller_of(context: grpc.aio.ServicerContext, stream: int | None = None) -> Caller:
    """Return who is behind an RPC; streams are numbered, each is a caller of its own."""
    name = context.peer() if stream is None else f"{context.peer()}#{stream}"
    return Caller(name, NO_DEADLINE.within(context.time_remaining()))
