"""Item content as callers send it, and the limits on it."""

from dataclasses import dataclass
from enum import Enum

from vecserve_server.errors import InvalidItem


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
