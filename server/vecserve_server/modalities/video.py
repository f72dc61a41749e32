"""Video modality: windows of frames and sound, prepared as the Perceiver's authors do.

Every step is that of DeepMind's perceiver/colabs/video_autoencoding.ipynb: the largest
square in the middle of a frame, resized by OpenCV's bilinear filter (of four pixels,
whatever the size), and one channel of sound. But frames are taken by their times,
so that 16 of them are 0.64 s of a video of any frame rate, and they are turned upright.
"""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from vecserve_server.modalities.base import Fields, Modality
from vecserve_server.modalities.content import Limits
from vecserve_server.modalities.rows import Prepared, Row, Span
from vecserve_server.modalities.video_frames import EncodedVideo
from vecserve_server.repository.manifest import VideoInput

if TYPE_CHECKING:
    from vecserve_server.modalities.video_decode import Pixels, Video

_PROBES = 2
# OpenCV's INTER_RESIZE_COEF_SCALE: weights of pixels are whole 2048ths.
_WEIGHT_ONE = 2048

_Int = npt.NDArray[np.int64]
_Weights = npt.NDArray[np.int32]


class VideoModality(Modality[VideoInput, EncodedVideo]):
    """Turns a video into one row a window.

    A row has `frames`, uint8 [frames, height, width, 3], and `audio`, float32
    [audio_samples].
    """

    fields: ClassVar[Fields] = {"video": EncodedVideo}
    accepts = (EncodedVideo,)
    windowed = True
    decodes = True

    def __init__(self, spec: VideoInput, bundle_dir: Path, limits: Limits) -> None:
        """Raises ValueError if PyAV is not installed."""
        try:
            # Only here: FFmpeg is an extra, and large.
            from vecserve_server.modalities.video_decode import Video
        except ImportError as error:
            raise ValueError(
                f"a model for video needs PyAV: pip install 'vecserve[video]' ({error})"
            ) from error
        self._spec = spec
        self._limits = limits
        self._video: Callable[..., Video] = Video

    @staticmethod
    def from_bytes(data: bytes) -> EncodedVideo:
        """Return a file."""
        return EncodedVideo(data)

    @classmethod
    def describe(cls, spec: VideoInput, limits: Limits) -> dict[str, float]:
        """Return how long a window and a video may be, and how many windows are taken."""
        return {
            "window_seconds": float(_window_s(spec)),
            "max_seconds": limits.max_video_s,
            "max_windows": limits.max_video_windows,
        }

    @property
    def max_rows(self) -> int:
        """Windows of a long video."""
        return self._limits.max_video_windows

    def blank_row(self, positions: int) -> Row:
        """Return a window of black and silence."""
        spec = self._spec
        return Row(
            {
                "frames": np.zeros((spec.frames, spec.height, spec.width, 3), dtype=np.uint8),
                "audio": np.zeros(spec.audio_samples, dtype=np.float32),
            }
        )

    def probe_rows(self) -> list[Row]:
        """Return windows of noise."""
        random = np.random.default_rng(0)
        spec = self._spec
        shape = (spec.frames, spec.height, spec.width, 3)
        return [
            Row(
                {
                    "frames": random.integers(0, 256, shape, dtype=np.uint8),
                    "audio": random.uniform(-0.1, 0.1, spec.audio_samples).astype(np.float32),
                }
            )
            for _ in range(_PROBES)
        ]

    def prepare(self, content: EncodedVideo, *, refuse_truncation: bool) -> Prepared:
        """Choose windows, decode their frames and sound; nothing is ever truncated.

        Raises InvalidItem: what `Video` raises.
        """
        spec, limits = self._spec, self._limits
        video = self._video(
            content.data, max_pixels=limits.max_image_pixels, max_s=limits.max_video_s
        )
        length_s = _window_s(spec)
        starts = window_starts(video.duration_s, length_s, limits.max_video_windows)
        rows = [
            Row(
                self.blank_row(1).feeds,
                span=Span(float(start), float(min(start + length_s, video.duration_s))),
            )
            for start in starts
        ]
        self._fill_frames(video, starts, rows)
        self._fill_audio(video, starts, rows)
        return Prepared(tuple(rows))

    def _fill_frames(self, video: "Video", starts: list[Fraction], rows: list[Row]) -> None:
        spec = self._spec
        times = [
            start + Fraction(frame, spec.frame_rate_hz)
            for start in starts
            for frame in range(spec.frames)
        ]
        for places, pixels in video.frames(times):
            small = resize_bilinear(central_square(pixels), spec.height, spec.width)
            for place in places:
                row, frame = divmod(place, spec.frames)
                rows[row].feeds["frames"][frame] = small

    def _fill_audio(self, video: "Video", starts: list[Fraction], rows: list[Row]) -> None:
        spec = self._spec
        first = [round(start * spec.sample_rate_hz) for start in starts]
        end_s = Fraction(first[-1] + spec.audio_samples, spec.sample_rate_hz)
        at = 0
        for samples in video.sound(spec.sample_rate_hz, end_s):
            for begin, row in zip(first, rows, strict=True):
                start, end = max(begin, at), min(begin + spec.audio_samples, at + len(samples))
                if start < end:
                    row.feeds["audio"][start - begin : end - begin] = samples[start - at : end - at]
            at += len(samples)


def window_starts(duration_s: Fraction, length_s: Fraction, most: int) -> list[Fraction]:
    """Return where windows of `length_s` start that cover a video, or are spread over it.

    As many as cover it, `most` of them if that were more; at equal distances,
    the first at its start and the last at its end.
    """
    count = min(most, -(-duration_s // length_s))
    if count == 1:
        return [Fraction(0)]
    step = (duration_s - length_s) / (count - 1)
    return [step * index for index in range(count)]


def central_square(pixels: "Pixels") -> "Pixels":
    """Return the largest square in the middle of an image, [height, width, 3]."""
    height, width = pixels.shape[:2]
    edge = min(height, width)
    top, left = height // 2 - edge // 2, width // 2 - edge // 2
    return pixels[top : top + edge, left : left + edge]


def resize_bilinear(pixels: "Pixels", height: int, width: int) -> "Pixels":
    """Resize an image, uint8 [height, width, 3], to the very bytes of cv2.resize.

    Each pixel is made of the four around its centre, by integers: a sum across, cut to
    15 bits, then one down, each weight a whole number of 2048ths.
    """
    left, across = _taps(pixels.shape[1], width)
    top, down = _taps(pixels.shape[0], height)
    # At the edges OpenCV moves the weights across, but repeats the lines down.
    last = pixels.shape[1] - 1
    inside = (left >= 0) & (left < last)
    across = np.where(inside, across, np.array([[_WEIGHT_ONE], [0]], dtype=np.int32))
    left = left.clip(0, last)
    right = (left + 1).clip(0, last)

    def lines(rows: _Int) -> _Weights:
        line = pixels[rows.clip(0, len(pixels) - 1)].astype(np.int32)
        total: _Weights = line[:, left] * across[0, :, None] + line[:, right] * across[1, :, None]
        return np.right_shift(total, 4)

    upper = lines(top) * down[0, :, None, None] >> 16
    lower = lines(top + 1) * down[1, :, None, None] >> 16
    resized: Pixels = ((upper + lower + 2) >> 2).astype(np.uint8)
    return resized


def _taps(source: int, target: int) -> tuple[_Int, _Weights]:
    """Return the first of two pixels that make each new one, and their weights, [2, target]."""
    centres = ((np.arange(target) + 0.5) * (source / target) - 0.5).astype(np.float32)
    first = np.floor(centres)
    share = centres - first
    weights = np.rint(np.stack([1 - share, share]) * np.float32(_WEIGHT_ONE)).astype(np.int32)
    return first.astype(np.int64), weights


def _window_s(spec: VideoInput) -> Fraction:
    return Fraction(spec.frames, spec.frame_rate_hz)
