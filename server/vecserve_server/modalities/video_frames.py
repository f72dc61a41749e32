"""Videos as callers send them, and frames of them for models of images.

The video is cut into equal parts, one frame from each, as Temporal Segment Networks do
(Wang et al., 2016, arXiv:1608.00859): the frame in the middle, where their training
takes any.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from importlib.util import find_spec
from typing import TYPE_CHECKING

from vecserve_server.errors import InvalidItem
from vecserve_server.modalities.content import Content, Limits
from vecserve_server.modalities.rows import Row, Span
from vecserve_server.reasons import Reason

if TYPE_CHECKING:
    from vecserve_server.modalities.video_decode import Pixels

MAX_FRAMES = 256
"""Frames of one video: one every seven seconds of half an hour. At 224 x 224 pixels they are 39 MB,
which is what ten minutes of sound take."""


@dataclass(frozen=True, slots=True)
class EncodedVideo(Content):
    """A video file's bytes."""

    described = "a video"
    data: bytes

    def with_frames(self, frames: int) -> "SampledVideo":
        """Return that many of its frames."""
        return SampledVideo(self.data, frames)


@dataclass(frozen=True, slots=True)
class SampledVideo(Content):
    """A video file's bytes, of which so many frames are embedded as images."""

    described = "frames of a video"
    sampled = True
    data: bytes
    frames: int


def max_frames() -> int:
    """Return how many frames of a video may be asked for: none without PyAV."""
    return MAX_FRAMES if find_spec("av") else 0


def sample(
    content: SampledVideo, limits: Limits, to_row: Callable[["Pixels"], Row]
) -> tuple[Row, ...]:
    """Return a row a frame, with the part of the video that it stands for.

    `to_row` makes one of uint8 RGB [height, width, 3]. A frame that is in the middle of
    several parts, in a video that has fewer, is made one once.

    Raises InvalidItem: FRAMES_NOT_OFFERED, and what `Video` raises.
    """
    if content.frames > max_frames():
        raise InvalidItem(
            Reason.FRAMES_NOT_OFFERED,
            f"{content.frames} frames of a video are asked for, this server takes {max_frames()}: "
            "ask for fewer, or one with vecserve[video]",
        )
    # Only here: FFmpeg is an extra, and large.
    from vecserve_server.modalities.video_decode import Video

    video = Video(content.data, max_pixels=limits.max_image_pixels, max_s=limits.max_video_s)
    part_s = video.duration_s / content.frames
    rows: dict[int, Row] = {}
    for places, pixels in video.frames(
        (place + Fraction(1, 2)) * part_s for place in range(content.frames)
    ):
        row = to_row(pixels)
        for place in places:
            span = Span(float(place * part_s), float((place + 1) * part_s))
            rows[place] = replace(row, span=span)
    return tuple(rows[place] for place in range(content.frames))
