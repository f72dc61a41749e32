"""Targets: servers and commands under test, as named on the command line."""

import shlex
from dataclasses import dataclass
from typing import Self

KINDS = ("typed", "oip", "exec")


class BenchError(Exception):
    """A measurement cannot be made; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Target:
    """A target, NAME=KIND:WHERE.

    typed:HOST:PORT/MODEL  our typed API; MODEL+MODEL alternates between both
    oip:HOST:PORT/MODEL    Open Inference Protocol v2: Triton, MLServer, kserve, OVMS, ours
    exec:COMMAND           a process that speaks `worker`'s protocol
    """

    name: str
    kind: str
    where: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the target that `text` names. Raises BenchError."""
        spec = text
        name, equals, rest = text.partition("=")
        if equals and not name.startswith(tuple(f"{kind}:" for kind in KINDS)):
            spec = rest
        else:
            name = text
        kind, _, where = spec.partition(":")
        if kind not in KINDS or not where:
            raise BenchError(
                f"target {text!r} is not valid: write NAME=typed:HOST:PORT/MODEL, "
                "NAME=oip:HOST:PORT/MODEL or NAME=exec:COMMAND"
            )
        target = cls(name, kind, where)
        if kind != "exec" and not all((target.address, *target.models)):
            raise BenchError(f"target {text!r} names no model: write {kind}:HOST:PORT/MODEL")
        return target

    def __str__(self) -> str:
        spec = f"{self.kind}:{self.where}"
        return spec if self.name == spec else f"{self.name}={spec}"

    @property
    def address(self) -> str:
        """HOST:PORT of the server."""
        return self.where.partition("/")[0]

    @property
    def models(self) -> list[str]:
        """Models that requests alternate between."""
        return self.where.partition("/")[2].split("+")

    @property
    def command(self) -> list[str]:
        """The command line of an `exec` target."""
        return shlex.split(self.where)
