"""Pixels of a resized frame, and the choice of windows."""

import hashlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.support.clips import clip
from vecserve_server.modalities.content import Limits
from vecserve_server.modalities.video import (
    VideoModality,
    central_square,
    resize_bilinear,
    window_starts,
)
from vecserve_server.modalities.video_frames import EncodedVideo
from vecserve_server.repository.manifest import VideoInput


@pytest.mark.parametrize(
    ("edge", "sha256"),
    [
        (1, "45a90ae412d4cbef0f87a6242145b64697d494d30d4b251c9cb05fc0633e43c3"),
        (99, "2da1b06bdba3495e2adf1568a86ca318e920ab380e039243220dd99100cfbf38"),
        (270, "bb3591a50dfbff303bc1c3a3f3463363631246ff5682e639e199fc4b1f5c3384"),
        (448, "c8ea8aa734d3bcd1fea61a9544879f8957239622ee10472db7c2dda0ef55962d"),
        (1080, "7a202ab9a770a63ad35ffd58f80adc8181e959c044e20d2e92dbd3d1ad01afd0"),
    ],
)
def test_resized_pixels_are_those_of_opencv(edge: int, sha256: str) -> None:
    """The digests are of what cv2.resize(pixels, (224, 224)) of OpenCV 5.0.0 gives."""
    numbers = np.arange(edge * edge * 3, dtype=np.uint32)
    pixels = (numbers * np.uint32(2654435761) >> 24).astype(np.uint8).reshape(edge, edge, 3)
    resized = resize_bilinear(pixels, 224, 224)
    assert hashlib.sha256(resized.tobytes()).hexdigest() == sha256


def test_the_square_is_in_the_middle() -> None:
    pixels = np.broadcast_to(np.arange(7, dtype=np.uint8)[None, :, None], (4, 7, 3))
    assert central_square(pixels)[0, :, 0].tolist() == [1, 2, 3, 4]
    assert central_square(pixels.swapaxes(0, 1))[:, 0, 0].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("duration", "most", "starts"),
    [
        ("0.04", 10, ["0"]),
        ("0.64", 10, ["0"]),
        ("0.65", 10, ["0", "0.01"]),
        ("1.28", 10, ["0", "0.64"]),
        ("1800", 3, ["0", "899.68", "1799.36"]),
        ("1800", 1, ["0"]),
    ],
)
def test_windows_cover_a_video_or_are_spread_over_it(
    duration: str, most: int, starts: list[str]
) -> None:
    found = window_starts(Fraction(duration), Fraction("0.64"), most)
    assert found == [Fraction(start) for start in starts]


def test_no_thread_is_left_of_a_video() -> None:
    spec = VideoInput(
        frames=16, height=8, width=8, frame_rate_hz=25, sample_rate_hz=48_000, audio_samples=30_720
    )
    modality = VideoModality(spec, Path(), Limits())
    content = EncodedVideo(clip(seconds=1.28))
    threads = Path("/proc/self/task")
    before = set(threads.iterdir())
    modality.prepare(content, refuse_truncation=False)
    assert set(threads.iterdir()) <= before
