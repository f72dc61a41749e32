"""Interface of a wire protocol: encoding of messages and reading of answers."""

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
class StreamOutcome:
    """Outcome of `items` items of message `number` on a stream: an error's code, or None."""

    number: int
    items: int
    code: str | None


class Wire(Protocol):
    """A wire protocol. `untrained` names the models with random weights."""

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

    def read_stream(self, answer: bytes) -> Iterator[StreamOutcome]:
        """Yield the outcomes that one message of a stream carries."""
        ...
