"""Caller identity and deadline of an RPC."""

from dataclasses import dataclass

import grpc

from vecserve_server.scheduling.deadline import NO_DEADLINE, Deadline


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom fairness is between: `peer`, a connection, and `name`, one stream of it or all calls.

    `deadline` is the RPC's.
    """

    peer: str
    name: str
    deadline: Deadline


def caller_of(context: grpc.aio.ServicerContext, stream: int | None = None) -> Caller:
    """Return who is behind an RPC; streams are numbered, each is a caller of its own."""
    peer = context.peer()
    name = peer if stream is None else f"{peer}#{stream}"
    return Caller(peer, name, NO_DEADLINE.within(context.time_remaining()))
