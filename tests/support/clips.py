"""Videos made on the spot, each frame of which says when it is shown.

Frame n has the gray level 2n + 10 (of 255), from 120 on again; after `SOUND_AT_S` there
is a sound.
"""

import io
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

SOUND_AT_S = 0.5
RATE_HZ = 48_000
_TICK = Fraction(1, 1000)

# Without loss, so that a level stays what it is.
_VIDEO_OPTIONS = {
    "libx264": {"qp": "0", "preset": "ultrafast"},
    "libx265": {"x265-params": "lossless=1:log-level=none", "preset": "ultrafast"},
    "libvpx-vp9": {"lossless": "1", "cpu-used": "8", "deadline": "realtime"},
    "libvpx": {"crf": "4", "b": "20M", "cpu-used": "8", "deadline": "realtime"},
    "libsvtav1": {"crf": "5", "preset": "12"},
}


def level(frame: int) -> int:
    """Gray level of a frame."""
    return 2 * (frame % 120) + 10


def gray(frame: int, width: int, height: int) -> npt.NDArray[np.uint8]:
    """A frame, uint8 [height, width, 3]."""
    return np.full((height, width, 3), level(frame), dtype=np.uint8)


def quadrants(frame: int, width: int, height: int) -> npt.NDArray[np.uint8]:
    """A frame whose corners are, from the left and from above, 40, 90, 140 and 190."""
    pixels = gray(frame, width, height)
    pixels[: height // 2, : width // 2] = 40
    pixels[: height // 2, width // 2 :] = 90
    pixels[height // 2 :, : width // 2] = 140
    pixels[height // 2 :, width // 2 :] = 190
    return pixels


def clip(
    times_s: Sequence[float] | None = None,
    *,
    seconds: float = 1.28,
    frames_per_s: int = 25,
    size: tuple[int, int] = (64, 64),
    container: str = "mp4",
    video: str | None = "libx264",
    audio: str | None = "aac",
    key_every: int = 12,
    draw: Any = gray,
    options: dict[str, str] | None = None,
) -> bytes:
    """A file whose frames are shown at `times_s`, or else `frames_per_s` for `seconds`."""
    if times_s is None:
        times_s = [n / frames_per_s for n in range(round(seconds * frames_per_s))]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "clip"
        with av.open(str(file), "w", format=container, options=options or {}) as out:
            width, height = size
            if video:
                pictures: Any = out.add_stream(video, rate=frames_per_s)
                pictures.width, pictures.height = size
                pictures.pix_fmt = "yuv420p" if width % 2 == height % 2 == 0 else "yuv444p"
                pictures.codec_context.time_base = _TICK
                pictures.codec_context.gop_size = key_every
                pictures.codec_context.options = _VIDEO_OPTIONS[video]
            if audio:
                sound: Any = out.add_stream(audio, rate=RATE_HZ)
                sound.layout = "stereo"
                if audio == "vorbis":
                    sound.codec_context.options = {"strict": "experimental"}
            if video:
                for number, time_s in enumerate(times_s):
                    frame = av.VideoFrame.from_ndarray(draw(number, width, height), format="rgb24")
                    frame.pts, frame.time_base = round(time_s / _TICK), _TICK
                    out.mux(pictures.encode(frame))
                out.mux(pictures.encode(None))
            if audio:
                samples = _sound(seconds)
                block = sound.codec_context.frame_size or 1024
                for start in range(0, samples.shape[1], block):
                    heard = np.ascontiguousarray(samples[:, start : start + block])
                    part = av.AudioFrame.from_ndarray(heard, format="fltp", layout="stereo")
                    part.sample_rate, part.pts = RATE_HZ, start
                    part.time_base = Fraction(1, RATE_HZ)
                    out.mux(sound.encode(part))
                out.mux(sound.encode(None))
        return file.read_bytes()


def _sound(seconds: float) -> npt.NDArray[np.float32]:
    """A tone from SOUND_AT_S on, on the left; silence on the right."""
    times = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    tone = 0.5 * np.sin(2 * np.pi * 440 * times) * (times >= SOUND_AT_S)
    return np.stack([tone, np.zeros_like(tone)]).astype(np.float32)


def repeated(mkv: bytes, times: int, seconds: float) -> bytes:
    """A Matroska file of `seconds` played `times` times, not encoded anew."""
    file = io.BytesIO()
    with (
        av.open(file, "w", format="matroska") as out,
        av.open(io.BytesIO(mkv), "r") as source,
    ):
        streams = {one.index: out.add_stream_from_template(one) for one in source.streams}
        packets: list[Any] = [one for one in source.demux() if one.size]
        times_of = [(one.pts, one.dts) for one in packets]
        for turn in range(times):
            for packet, (pts, dts) in zip(packets, times_of, strict=True):
                # Muxing takes the packet's contents away, and changes its unit of time.
                part = av.Packet(bytes(packet))
                part.stream = streams[packet.stream_index]
                part.time_base = source.streams[packet.stream_index].time_base
                shift = round(turn * seconds / part.time_base)
                part.pts, part.dts = pts + shift, dts + shift
                part.is_keyframe = packet.is_keyframe
                out.mux(part)
    return file.getvalue()


def rotated(mp4: bytes, matrix: Sequence[int]) -> bytes:
    """The same MP4 with the display matrix (a, b, c, d) in its video track's header."""
    at = mp4.index(b"tkhd") + 4 + 40
    a, b, c, d = (value << 16 for value in matrix)
    numbers = (a, b, 0, c, d, 0, 0, 0, 1 << 30)
    return mp4[:at] + b"".join(n.to_bytes(4, signed=True) for n in numbers) + mp4[at + 36 :]
