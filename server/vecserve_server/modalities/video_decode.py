"""Video decoding by FFmpeg: the frames shown at given times, and the sound.

A first pass over the file reads the time of every frame and decodes none. It is from
these times, not from what the header states, that frames are chosen. Of what is
asked for then, only what lies between it and the key frame before it is decoded,
each frame at most once and one after the other, so a long video takes no more
memory than a short one.

Needs PyAV (vecserve[video]).
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.sidedata.sidedata import Type
from av.stream import Disposition

from vecserve_server.errors import InvalidItem
from vecserve_server.modalities.resample import Mono, resample
from vecserve_server.modalities.video_container import (
    MAX_PACKETS,
    check_container,
    too_many_packets,
)
from vecserve_server.reasons import Reason

Pixels = npt.NDArray[np.uint8]

# The decoders that callers can reach.
_VIDEO_CODECS = ("h264", "hevc", "vp8", "vp9", "av1")
_AUDIO_CODECS = ("aac", "opus", "vorbis", "mp3", "flac")
# FFmpeg's names of what decodes them.
_DECODERS = (*_VIDEO_CODECS, "libdav1d", *_AUDIO_CODECS, "aac_fixed", "mp3float")

# Pixels of all frames that are decoded for one video: half an hour of 1920 x 1080 at 36
# frames a second with no key frame but the first.
_MAX_DECODED_PIXELS = 1 << 37
_MIN_SAMPLE_RATE_HZ, _MAX_SAMPLE_RATE_HZ = 1_000, 768_000
# Sound that is this far from where its time says is moved there. Timestamps of WebM are
# in milliseconds.
_MAX_DRIFT_S = Fraction(1, 25)
# Samples between two calls of the resampler.
_BLOCK_SAMPLES = 1 << 16
# A frame that states no duration, in a video of one frame.
_DEFAULT_FRAME_S = Fraction(1, 25)
_ONE = 1 << 16
"""1.0 in the first two columns of a display matrix (ISO/IEC 14496-12, 8.3.2)."""


@dataclass(frozen=True, slots=True)
class _Track:
    """Times of the packets of a video stream, in its own ticks.

    `pts` and `is_key` are one a packet in decoding order, `shown` the times of those that
    are shown, in order, without repetition.
    """

    pts: npt.NDArray[np.int64]
    is_key: npt.NDArray[np.bool_]
    shown: list[int]
    last_duration: int


class Video:
    """A video file that is being read. Times are in seconds from its first frame."""

    def __init__(self, data: bytes, *, max_pixels: int, max_s: float) -> None:
        """Read the times of all frames. `max_pixels` bounds a frame, `max_s` the whole.

        Raises InvalidItem: VIDEO_EMPTY, VIDEO_UNREADABLE, VIDEO_TRUNCATED,
        VIDEO_TOO_LONG, VIDEO_UNSUPPORTED, VIDEO_TOO_LARGE; reading frames and
        sound may raise any but the first.
        """
        self._data = data
        self._max_pixels = max_pixels
        self._format = check_container(data)
        with self._opened() as container:
            stream = self._picture_stream(container)
            self._tick = _fraction(stream.time_base)
            self._check_size(stream.codec_context.width, stream.codec_context.height)
            self._frame_pixels = stream.codec_context.width * stream.codec_context.height
            self._track = self._scan(container, stream, max_s)

    @property
    def duration_s(self) -> Fraction:
        """Time from the start of the first frame to the end of the last one; over 0."""
        track = self._track
        return self._tick * (track.shown[-1] - track.shown[0] + track.last_duration)

    def frames(self, times_s: Iterable[Fraction]) -> Iterator[tuple[list[int], Pixels]]:
        """Yield the frame shown at each time, uint8 RGB [height, width, 3], upright.

        That is the last one whose time is not later; of what is before the first
        frame, that frame, and of what is after the end, the last. Each comes with the
        places, in `times_s`, of the times at which it is shown.
        """
        shown = self._track.shown
        places: dict[int, list[int]] = {}
        for place, time_s in enumerate(times_s):
            at = bisect_right(shown, shown[0] + time_s // self._tick)
            places.setdefault(shown[max(at - 1, 0)], []).append(place)
        with self._opened() as container:
            for pts, frame in self._decode(container, sorted(places)):
                yield places[pts], self._to_rgb(frame)

    def sound(self, rate_hz: int, end_s: Fraction) -> Iterator[Mono]:
        """Yield the first channel at `rate_hz` from the first frame to `end_s` or a bit later.

        Silence is filled in where the file has none; nothing is yielded if it has no sound.
        """
        with self._opened() as container:
            stream = next(iter(container.streams.audio), None)
            if stream is None:
                return
            self._check_codec(stream, _AUDIO_CODECS, "sound")
            blocks = self._sound_blocks(container, stream, end_s)
            first = next(blocks, None)
            if first is None:
                return
            source_hz, _ = first
            yield from resample(_gathered(first, blocks), source_hz, rate_hz)

    @contextmanager
    def _opened(self) -> Iterator[InputContainer]:
        """Open the file; what FFmpeg says of its contents becomes an InvalidItem."""
        options = {"max_pixels": str(self._max_pixels)}
        try:
            with av.open(
                BytesIO(self._data),
                mode="r",
                format=self._format,
                options=options,
                container_options={"codec_whitelist": ",".join(_DECODERS)},
                metadata_errors="replace",
            ) as container:
                for stream in (*container.streams.video, *container.streams.audio):
                    # None if FFmpeg does not know the codec, whatever PyAV's types say.
                    context: Any = stream.codec_context
                    if context is not None:
                        # Frames of several threads would take the memory of as many frames.
                        context.thread_count = 1
                        context.options = options
                yield container
        except InvalidItem:
            raise
        # Besides its own errors, PyAV raises what Python has for wrong values.
        except (av.FFmpegError, ValueError, TypeError, ArithmeticError, LookupError) as error:
            raise InvalidItem(
                Reason.VIDEO_UNREADABLE,
                f"the video is damaged ({error}): send a whole MP4, MOV, WebM or MKV file",
            ) from error

    def _picture_stream(self, container: InputContainer) -> Any:
        streams = [
            stream
            for stream in container.streams.video
            if not Disposition.attached_pic & stream.disposition
        ]
        if not streams:
            held = "only sound" if container.streams.audio else "no pictures"
            raise InvalidItem(
                Reason.VIDEO_EMPTY, f"the file holds {held}: send one that has a video stream"
            )
        self._check_codec(streams[0], _VIDEO_CODECS, "video")
        return streams[0]

    def _check_codec(self, stream: Any, known: tuple[str, ...], kind: str) -> None:
        name = _codec_of(stream)
        if name not in known:
            raise InvalidItem(
                Reason.VIDEO_UNSUPPORTED,
                f"the {kind} is coded as {name}, the server reads {', '.join(known)}: convert it",
            )

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self._max_pixels:
            raise InvalidItem(
                Reason.VIDEO_TOO_LARGE,
                f"the video's frames are {width} x {height} pixels, the server takes "
                f"{self._max_pixels} in all: scale it down",
            )

    def _scan(self, container: InputContainer, stream: Any, max_s: float) -> _Track:
        pts, keys = array("q"), bytearray()
        shown: dict[int, int] = {}
        for packet in container.demux(stream):
            if not packet.size:
                continue  # the end
            if packet.is_corrupt:
                raise InvalidItem(
                    Reason.VIDEO_TRUNCATED,
                    f"the video ends within its frame {len(pts)}: send all of the file",
                )
            if packet.pts is None:
                raise InvalidItem(
                    Reason.VIDEO_UNSUPPORTED,
                    f"frame {len(pts)} of the video has no time: write it anew, for instance "
                    "with `ffmpeg -i IN OUT.mp4`",
                )
            if len(pts) >= MAX_PACKETS:
                raise too_many_packets()
            pts.append(packet.pts)
            keys.append(packet.is_keyframe)
            if not packet.is_discard:
                shown[packet.pts] = packet.duration or 0
        if not shown:
            raise InvalidItem(Reason.VIDEO_EMPTY, "the video holds no frames: send at least one")
        times = sorted(shown)
        track = _Track(
            np.frombuffer(pts, dtype=np.int64),
            np.frombuffer(keys, dtype=np.bool_),
            times,
            self._last_duration(times, shown),
        )
        seconds = self._tick * (times[-1] - times[0] + track.last_duration)
        if seconds > max_s:
            raise InvalidItem(
                Reason.VIDEO_TOO_LONG,
                f"the video lasts {float(seconds):.0f} s, the server takes {max_s:g}: "
                "send it in parts",
            )
        return track

    def _last_duration(self, times: list[int], durations: Mapping[int, int]) -> int:
        """Return what the last frame states, or else the time between it and the one before."""
        if durations[times[-1]] > 0:
            return durations[times[-1]]
        if len(times) > 1:
            return times[-1] - times[-2]
        return max(1, round(_DEFAULT_FRAME_S / self._tick))

    def _decode(self, container: InputContainer, wanted: list[int]) -> Iterator[tuple[int, Any]]:
        """Yield the frames of the times `wanted`, ascending and all in `_track.shown`."""
        stream = self._picture_stream(container)
        needed, ends = self._needed(wanted)
        self._check_work(int(needed.sum()))
        decoder = stream.codec_context
        pts = self._track.pts
        run_start = 0
        waiting = list(reversed(wanted))
        latest: Any = None

        def take(frame: Any) -> Iterator[tuple[int, Any]]:
            nonlocal latest
            if frame.pts is None:
                return
            while waiting and waiting[-1] < frame.pts:
                yield self._shown_at(waiting.pop(), latest)
            latest = frame
            if waiting and waiting[-1] == frame.pts:
                yield waiting.pop(), frame

        index = -1
        for packet in container.demux(stream):
            if not packet.size or not waiting:
                break
            index += 1
            if not needed[index]:
                continue
            if index == 0 or not needed[index - 1]:
                run_start = pts[index]
            # A picture that is shown before its key frame refers to what was not decoded.
            if pts[index] >= run_start:
                for frame in decoder.decode(packet):
                    yield from take(frame)
            if index + 1 == len(needed) or not needed[index + 1]:
                for frame in decoder.decode(None):
                    yield from take(frame)
                while waiting and waiting[-1] <= ends[index]:
                    yield self._shown_at(waiting.pop(), latest)
                decoder.flush_buffers()
                latest = None
        if waiting:
            raise _damaged(self._seconds(waiting[-1]))

    def _needed(self, wanted: list[int]) -> tuple[npt.NDArray[np.bool_], dict[int, int]]:
        """Return which packets to decode; and, by the last packet of each run, its last frame."""
        track = self._track
        place = {pts: index for index, pts in enumerate(track.pts.tolist())}
        keys = np.flatnonzero(track.is_key)
        needed = np.zeros(len(track.pts), dtype=np.bool_)
        for pts in wanted:
            index = place[pts]
            before = keys[: np.searchsorted(keys, index, side="right")]
            usable = before[track.pts[before] <= pts]
            needed[(usable[-1] if len(usable) else 0) : index + 1] = True
        ends = {}
        for pts in wanted:
            after = place[pts] + np.flatnonzero(~needed[place[pts] :])[:1]
            end = int(after[0]) - 1 if len(after) else len(needed) - 1
            ends[end] = pts
        return needed, ends

    def _check_work(self, frames: int) -> None:
        if frames * self._frame_pixels > _MAX_DECODED_PIXELS:
            raise InvalidItem(
                Reason.VIDEO_TOO_LARGE,
                f"{frames} frames would have to be decoded, more pixels than the server takes: "
                "send the video in parts, scaled down, or with more key frames",
            )

    def _shown_at(self, pts: int, frame: Any) -> tuple[int, Any]:
        """Return what is shown where no frame has the time `pts`: the one before.

        VP8 and VP9 have frames that are never shown, but have a time. Raises
        InvalidItem if more than one is missing.
        """
        shown = self._track.shown
        if frame is None or bisect_right(shown, pts) - bisect_right(shown, frame.pts) > 1:
            raise _damaged(self._seconds(pts))
        return pts, frame

    def _seconds(self, pts: int) -> float:
        return float(self._tick * (pts - self._track.shown[0]))

    def _to_rgb(self, frame: Any) -> Pixels:
        if frame.is_corrupt:
            raise _damaged(self._seconds(frame.pts))
        self._check_size(frame.width, frame.height)
        # Else FFmpeg starts a thread a core for each frame, and Python may keep them for long.
        return _upright(frame.to_ndarray(format="rgb24", threads=1), frame)

    def _sound_blocks(
        self, container: InputContainer, stream: Any, end_s: Fraction
    ) -> Iterator[tuple[int, Mono]]:
        """Yield sample rate and samples of the first channel, without gaps, from the first frame.

        Ends with the sound, or after `end_s`.
        """
        origin_s = self._tick * self._track.shown[0]
        read = 0
        rate_hz = 0
        for packet in container.demux(stream):
            for frame in stream.codec_context.decode(packet if packet.size else None):
                rate_hz = rate_hz or frame.sample_rate
                if (
                    frame.sample_rate != rate_hz
                    or not _MIN_SAMPLE_RATE_HZ <= rate_hz <= _MAX_SAMPLE_RATE_HZ
                ):
                    raise InvalidItem(
                        Reason.VIDEO_UNSUPPORTED,
                        f"the sound's rate is {frame.sample_rate} Hz after {rate_hz} Hz: the "
                        f"server takes one rate, {_MIN_SAMPLE_RATE_HZ} to {_MAX_SAMPLE_RATE_HZ}",
                    )
                samples = _first_channel(frame)
                stated = read
                if frame.pts is not None:
                    seconds = frame.pts * _fraction(frame.time_base) - origin_s
                    stated = round(min(seconds, end_s) * rate_hz)
                if not read or abs(stated - read) > _MAX_DRIFT_S * rate_hz:
                    samples = samples[max(read - stated, 0) :]
                    for start in range(read, stated, _BLOCK_SAMPLES):
                        gap = min(_BLOCK_SAMPLES, stated - start)
                        yield rate_hz, np.zeros(gap, dtype=np.float32)
                        read += gap
                read += len(samples)
                yield rate_hz, samples
                if read >= end_s * rate_hz:
                    return
            if not packet.size:
                return


def _gathered(first: tuple[int, Mono], rest: Iterator[tuple[int, Mono]]) -> Iterator[Mono]:
    """Yield the blocks joined to larger ones: a decoder's own are of a thousand samples."""
    parts, held = [first[1]], len(first[1])
    for _, block in rest:
        parts.append(block)
        held += len(block)
        if held >= _BLOCK_SAMPLES:
            yield np.concatenate(parts)
            parts, held = [], 0
    yield np.concatenate([*parts, np.empty(0, dtype=np.float32)])


def _first_channel(frame: Any) -> Mono:
    """Return the first channel of an audio frame, full scale at 1.0."""
    samples = frame.to_ndarray()
    channel = samples[0] if frame.format.is_planar else samples[0, :: frame.layout.nb_channels]
    full_scale, zero = 1.0, 0.0
    if channel.dtype.kind != "f":
        full_scale = 2.0 ** (8 * channel.dtype.itemsize - 1)
        zero = full_scale if channel.dtype.kind == "u" else 0.0
    mono: Mono = ((channel - zero) / full_scale).astype(np.float32)
    return mono


def _upright(pixels: Pixels, frame: Any) -> Pixels:
    """Apply the display matrix: rotation by a multiple of 90 degrees, and mirroring.

    It takes a pixel from (x, y) to (a x + c y, b x + d y).
    """
    matrix = frame.side_data.get(Type.DISPLAYMATRIX)
    if matrix is None:
        return pixels
    a, b, _, c, d, *_ = np.frombuffer(bytes(matrix), dtype=np.int32).tolist()
    if {abs(a), abs(d)} == {_ONE} and b == c == 0:
        return pixels[:: _sign(d), :: _sign(a)]
    if {abs(b), abs(c)} == {_ONE} and a == d == 0:
        return pixels.swapaxes(0, 1)[:: _sign(b), :: _sign(c)]
    raise InvalidItem(
        Reason.VIDEO_UNSUPPORTED,
        "the video is to be shown rotated by no multiple of 90 degrees, or scaled: write it anew",
    )


def _sign(value: int) -> int:
    return 1 if value > 0 else -1


def _codec_of(stream: Any) -> str:
    context = stream.codec_context
    return "unknown" if context is None else str(context.codec.canonical_name)


def _fraction(time_base: Fraction | None) -> Fraction:
    if not time_base:
        raise ValueError("a stream states no unit of time")
    return time_base


def _damaged(seconds: float) -> InvalidItem:
    return InvalidItem(
        Reason.VIDEO_UNREADABLE,
        f"the video is damaged: its picture {seconds:.2f} s from the start cannot be decoded; "
        "write it anew",
    )
