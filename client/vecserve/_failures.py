"""Base exception of the client, and the failure of one item."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from google.rpc import error_details_pb2


class VecserveError(Exception):
    """The base of all errors of this package."""


@dataclass(frozen=True, slots=True)
class ItemFailure:
    """Why one item has no vector.

    `index` is the item's place in the input, from 0; `id` its name. `code` is
    the name of a gRPC status code, such as INVALID_ARGUMENT; `reason` a
    constant for programs, such as IMAGE_UNREADABLE; `message` a sentence for a
    person.
    """

    index: int
    id: str
    code: str
    reason: str
    message: str

    def __str__(self) -> str:
        name = "" if self.id == str(self.index) else f" {self.id}"
        return f"[{self.index}]{name}: {self.message} ({self.code})"


def reason_of(details: Iterable[Any]) -> str:
    """Return the reason in a Status's details (google.protobuf.Any), or ""."""
    info = error_details_pb2.ErrorInfo()
    return next((str(info.reason) for detail in details if detail.Unpack(info)), "")
