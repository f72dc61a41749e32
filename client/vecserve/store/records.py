"""Records of a collection, and the keys that identify them."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

FIELDS = (
    *("key", "vector", "path", "modality", "content", "model", "model_version"),
    *("window", "windows", "start_s", "end_s"),
)
"""Fields of every record; metadata may use any other name."""


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """One vector: of an item, or of one window of a long audio or video."""

    key: str
    """From `record_key`; a record that is upserted replaces the one of its key."""
    vector: npt.NDArray[np.float32]
    """[dimensions]."""
    path: str
    """The file, absolute; of a text its source and name, as in stdin#1f2e or rows.jsonl#7."""
    modality: str
    """text, image, audio or video."""
    content: str
    """Hash of what was embedded; another one means that it changed."""
    window: int = 0
    """Which window of the item, from 0."""
    windows: int = 1
    """How many the item has."""
    start_s: float | None = None
    """Of the window, in seconds from the item's start; None for what has no time."""
    end_s: float | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    """Further fields, JSON values; `text` is the text of a line."""


@dataclass(frozen=True, slots=True)
class Known:
    """What a collection says of a record without its vector."""

    key: str
    path: str
    content: str
    windows: int


@dataclass(frozen=True, slots=True)
class Hit:
    """One record that a search found."""

    score: float
    """By the collection's metric: cosine and inner product, larger is nearer; l2, smaller."""
    path: str
    modality: str
    start_s: float | None
    end_s: float | None
    metadata: dict[str, Any]


def record_key(model: str, version: str, path: str, window: int) -> str:
    """Return the key of a window of an item: SHA-256 as 64 hexadecimal digits."""
    parts = (model, version, path, str(window))
    return hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()
