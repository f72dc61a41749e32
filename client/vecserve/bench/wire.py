"""What the loops need of a protocol: encoded messages, and how to read answers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from vecserve.bench.load import Load


@dataclass(frozen=True, slots=True)
class Message:
    """A request, encoded before the clock starts. `number` is its place in the pool."""

    number: int
    data: bytes
    items: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """On a stream: `items` of message `number` are answered, with an error's code or None."""

    number: int
    items: int
    code: str | None


class Wire(Protocol):
    """A protocol. `untrained` are models of random weights."""

    unary_path: str
    stream_path: str
    channel_options: Sequence[tuple[str, int]]
    untrained: list[str]

    def encode(self, load: Load) -> list[Message]:
        """Return the load's messages. Raises BenchError if it cannot be sent."""
        ...

    def read(self, answer: bytes) -> list[str | None]:
        """Return, for each item of a unary answer, None or its error's code."""
        ...

    def read_stream(self, answer: bytes) -> Iterator[Verdict]:
        """Yield what one message of a stream says."""
        ...
