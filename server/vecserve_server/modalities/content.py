"""Item content as callers send it, and the limits on it."""

from dataclasses import dataclass
from typing import ClassVar


class Content:
    """What one item holds. Each modality has its own subclasses; `described` is for people."""

    __slots__ = ()
    described: ClassVar[str]

    sampled: ClassVar[bool] = False
    """Whether its rows are items of their own, whose vectors are pooled once they are finished."""

    def with_frames(self, frames: int) -> "Content":
        """Return what to embed where so many frames of a video are asked for."""
        return self


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest items that are prepared; they bound what one item costs.

    The defaults are the server's. `max_text_bytes` is of UTF-8: a mebibyte is
    tokenized in about a second. `max_image_pixels` bounds the image as decoded
    and as resized, at 4 bytes a pixel, and is at most Pillow's own limit,
    178,956,970; the same bound holds for a video's frames. `max_audio_s` is of any
    rate: half an hour takes 115 MB at 16 kHz. Of a video that lasts longer than
    `max_video_windows` windows, so many are embedded, at equal distances: ten is how
    video classifiers are tested on Kinetics, and what the Perceiver takes, 2.5 MB each.
    """

    max_text_bytes: int = 1024 * 1024
    max_image_pixels: int = 64_000_000
    max_audio_s: float = 1800
    max_video_s: float = 1800
    max_video_windows: int = 10
