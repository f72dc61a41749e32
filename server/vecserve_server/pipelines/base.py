"""What the three pipelines have in common: content in, rows out, vectors back.

`prepare` runs in worker threads, before the queue, so a bad item fails alone
and batches hold valid arrays only. `finish` runs after the batch. Neither
knows protobuf, gRPC or ONNX Runtime.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import numpy as np
import numpy.typing as npt

from vecserve_server.errors import InvalidItem
from vecserve_server.repository.manifest import Output


@dataclass(frozen=True, slots=True)
class Text:
    """A text."""

    text: str


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """An image file's bytes."""

    data: bytes


@dataclass(frozen=True, slots=True)
class EncodedAudio:
    """An audio file's bytes."""

    data: bytes


class SampleFormat(Enum):
    """How one PCM sample is written, as a numpy dtype."""

    S16LE = "<i2"
    F32LE = "<f4"


@dataclass(frozen=True, slots=True)
class PcmAudio:
    """Bare samples, channels interleaved."""

    data: bytes
    format: SampleFormat
    sample_rate_hz: int
    channels: int


Content = Text | EncodedImage | EncodedAudio | PcmAudio

_KINDS = {
    Text: "a text",
    EncodedImage: "an image",
    EncodedAudio: "an audio file",
    PcmAudio: "PCM audio",
}


def wrong_modality(takes: str, content: Content) -> InvalidItem:
    """Return the error for a content that a pipeline for `takes` was given."""
    return InvalidItem(
        "WRONG_MODALITY",
        f"the item is {_KINDS[type(content)]}, this takes {takes}: "
        "ListModels says which model takes what",
    )


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest items that are prepared; they bound what one item costs.

    The defaults are the server's. `max_text_bytes` is of UTF-8: a mebibyte is
    tokenized in about a second. `max_image_pixels` bounds the image as decoded
    and as resized, at 4 bytes a pixel, and is at most Pillow's own limit,
    178,956,970. `max_audio_s` is of any rate: half an hour takes 115 MB at 16 kHz.
    """

    max_text_bytes: int = 1024 * 1024
    max_image_pixels: int = 64_000_000
    max_audio_s: float = 1800


@dataclass(frozen=True, slots=True)
class Span:
    """A part of an item, in seconds from its start."""

    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Row:
    """What one item, or one window of it, adds to a batch.

    `feeds` holds one array an input of the graph, without the batch axis.
    `positions` is the row's length in the unit of the batch budget: tokens for
    text, 1 for images and audio windows. `span` is set for audio only.
    `weight` is the row's share when rows are pooled into one vector: the
    positions that hold input.
    """

    feeds: dict[str, npt.NDArray[np.generic]]
    positions: int = 1
    weight: int = 1
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """One item, ready to be queued: at least one row."""

    rows: tuple[Row, ...]
    token_count: int = 0
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Finish:
    """What to make of the rows' outputs.

    `output` is the graph output that was run. `normalize`: scale each vector
    of the last axis to unit length if the graph did not. `pool_rows`: one
    vector for all rows, their mean by weight, before normalising.
    """

    output: Output
    normalize: bool
    pool_rows: bool


@dataclass(frozen=True, slots=True)
class FinishedVector:
    """One vector of an item, float32 [dimensions] or [positions, dimensions]."""

    values: npt.NDArray[np.float32]
    span: Span | None


class Pipeline(Protocol):
    """Turns one modality's items into rows. Thread-safe."""

    def is_quick(self, content: Content) -> bool:
        """Whether preparing this item takes less than handing it to a worker thread."""
        ...

    def prepare(self, content: Content, *, refuse_truncation: bool) -> Prepared:
        """Turn one item into rows.

        Raises InvalidItem if the content is of another modality, cannot be
        decoded, is over a limit, or is too long and `refuse_truncation`.
        """
        ...
