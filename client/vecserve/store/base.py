"""Interface of a collection of vectors: five operations that any store can offer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from types import TracebackType
from typing import Any, Literal, Protocol, Self

import numpy as np
import numpy.typing as npt

from vecserve.errors import VecserveError
from vecserve.store.records import Hit, Known, Record

Metric = Literal["cosine", "ip", "l2"]
"""How vectors are compared; ip: inner product."""


class StoreError(VecserveError):
    """A store cannot be opened, refuses, or holds something else than was asked for."""


@dataclass(frozen=True, slots=True)
class Embedding:
    """How the vectors of a collection were made. Only vectors made alike can be compared."""

    model: str
    version: str
    dimensions: int
    metric: Metric = "cosine"
    prompt: str | None = None
    """What went before each text; None: nothing."""

    def __str__(self) -> str:
        prompt = f", prompt {self.prompt!r}" if self.prompt else ""
        return (
            f"{self.model} version {self.version} "
            f"({self.dimensions} dimensions, {self.metric}{prompt})"
        )

    def to_json(self) -> str:
        """Return the description as a store keeps it."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self | None:
        """Read a kept description; None if it is none of ours."""
        try:
            values = json.loads(text)
            return cls(**{field.name: values[field.name] for field in fields(cls)})
        except (ValueError, TypeError, KeyError):
            return None


class Store(Protocol):
    """One collection. A context manager: leaving it makes what was written fast to search.

    One process writes to a collection at a time. Every method raises StoreError
    if the store fails or refuses.
    """

    @property
    def embedding(self) -> Embedding | None:
        """How the vectors there were made; None if there is no such collection."""

    def ensure(self, embedding: Embedding) -> None:
        """Create the collection if it is missing.

        Raises StoreError if its vectors were made in another way.
        """

    def known(self, keys: Sequence[str] | None = None) -> Iterable[Known]:
        """Yield what is there of these keys, in any order; without them, of every record."""

    def upsert(self, records: Sequence[Record]) -> None:
        """Write records, no two of one key, and replace those with the same keys."""

    def delete(self, keys: Sequence[str]) -> None:
        """Remove records; keys that are not there are passed over."""

    def search(
        self, vector: npt.NDArray[np.float32], top: int, where: str | None = None
    ) -> list[Hit]:
        """Return the `top` records nearest to `vector` [dimensions], nearest first.

        `where` is a condition on fields and metadata, such as 'modality == "image"'.
        """

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


def check_embedding(place: str, found: Embedding, wanted: Embedding) -> None:
    """Raise StoreError, which names both, unless vectors of both can be compared."""
    if found != wanted:
        raise StoreError(
            f"{place} holds vectors of {found}, not of {wanted}: take another --collection"
        )


def row_of(record: Record, embedding: Embedding) -> dict[str, Any]:
    """Return a record as a store's row, without its metadata."""
    return {
        "key": record.key,
        "vector": record.vector,
        "path": record.path,
        "modality": record.modality,
        "content": record.content,
        "model": embedding.model,
        "model_version": embedding.version,
        "window": record.window,
        "windows": record.windows,
        "start_s": record.start_s,
        "end_s": record.end_s,
    }


def hit_of(score: float, row: dict[str, Any], metadata: dict[str, Any]) -> Hit:
    """Make a Hit of a store's row."""
    return Hit(score, row["path"], row["modality"], row["start_s"], row["end_s"], metadata)
