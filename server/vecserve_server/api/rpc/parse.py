"""Parsing that never raises, so that a malformed message gets a status that helps."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class Malformed:
    """Bytes that are not the message expected."""

    why: str


def parser(message_type: type[M]) -> Callable[[bytes], M | Malformed]:
    """Return a gRPC request deserializer for `message_type`.

    gRPC answers a deserializer that raises with INTERNAL, which blames us.
    """

    def parse(data: bytes) -> M | Malformed:
        try:
            return message_type.FromString(data)
        except DecodeError as error:
            return Malformed(str(error))

    return parse
