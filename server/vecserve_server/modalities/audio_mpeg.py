"""MPEG audio frames: MP3s in a row, tags between them, and lengths that no header states.

libsndfile takes the length from a Xing header, or guesses it from the first frame,
and stops there. So the frames are counted (ISO 11172-3, ISO 13818-3), and each part gets
a header that says how many it has.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from vecserve_server.errors import InvalidItem
from vecserve_server.modalities.audio_tags import Tags
from vecserve_server.modalities.audio_tolerance import (
    LENGTH_TOLERANCE,
    check_left_over,
    slack_bytes,
)
from vecserve_server.reasons import Reason

# Three hours of the shortest frames that are usual; a second to count.
_MAX_FRAMES = 1 << 19
_SYNC = re.compile(rb"\xff[\xe2-\xe7\xf2-\xff][\x10-\xef]")

# By version bits (0: MPEG 2.5, 2: MPEG 2, 3: MPEG 1) and layer bits (1: III, 2: II, 3: I).
_RATES_HZ = {
    3: (44_100, 48_000, 32_000),
    2: (22_050, 24_000, 16_000),
    0: (11_025, 12_000, 8_000),
}
_LAYER_III = 1
_KBITS = {
    (3, 3): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (3, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (3, 1): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 3): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_KBITS[2, 1] = _KBITS[2, 2]
_KBITS |= {(0, layer): _KBITS[2, layer] for layer in (1, 2, 3)}


def _frame_bytes() -> dict[bytes, int]:
    """Return the size of a frame by the second and third byte of its header."""
    sizes = {}
    for (version, layer), kbits in _KBITS.items():
        for rate, hz in enumerate(_RATES_HZ[version]):
            for index, kbit in enumerate(kbits, 1):
                for rest in range(8):  # not protected, padded, private
                    second = 0xE0 | version << 3 | layer << 1 | rest & 1
                    third = index << 4 | rate << 2 | (rest & 6) >> 1
                    padded = third >> 1 & 1
                    if layer == 3:
                        size = (12_000 * kbit // hz + padded) * 4
                    else:
                        short = layer == _LAYER_III and version != 3
                        size = (72_000 if short else 144_000) * kbit // hz + padded
                    sizes[bytes((second, third))] = size
    return sizes


_FRAME_BYTES = _frame_bytes()

Key = tuple[int, int, bool]


@dataclass(slots=True)
class _Part:
    """Frames of one version, layer, rate and channels, that one header counts."""

    key: Key
    header: bytes
    """The header's frame, without sound; empty without one."""
    count_at: int | None = None
    """Where in it the frames are counted."""
    runs: list[list[int]] = field(default_factory=list)
    frames: int = 0

    def add(self, start: int, end: int) -> None:
        if self.runs and self.runs[-1][1] == start:
            self.runs[-1][1] = end
        else:
            self.runs.append([start, end])
        self.frames += 1


def starts_like_mpeg(data: bytes, at: int) -> bool:
    """Whether a frame's header stands there."""
    return data[at : at + 1] == b"\xff" and data[at + 1 : at + 3] in _FRAME_BYTES


def mpeg_parts(data: bytes) -> Iterator[bytes]:
    """Yield each MP3 of one or several in a row: a header that counts the frames, and frames only.

    Raises InvalidItem: AUDIO_UNREADABLE, AUDIO_LENGTH_WRONG, AUDIO_TRUNCATED, AUDIO_TOO_LONG.
    """
    found = False
    for part in _split(data):
        if part.frames:
            found = True
            yield _with_count(part, data)
    if not found:
        raise InvalidItem(
            Reason.AUDIO_UNREADABLE,
            "the audio starts like MP3 audio but holds no frame of sound: send all of the file, "
            "or write it anew",
        )


def _split(data: bytes) -> Iterator[_Part]:
    part = None
    for number, at in enumerate(_frames(data), 1):
        if number > _MAX_FRAMES:
            raise InvalidItem(
                Reason.AUDIO_TOO_LONG,
                f"the MP3 has more than {_MAX_FRAMES} frames: send it in parts",
            )
        key = _key(data, at)
        end = at + _FRAME_BYTES[data[at + 1 : at + 3]]
        header = _read_header(data[at:end], key)
        if header or part is None or part.key != key:
            if part is not None:
                yield part
            part = header or _Part(key, b"")
        if not header:
            part.add(at, min(end, len(data)))
    if part is not None:
        yield part


def _frames(data: bytes) -> Iterator[int]:
    """Yield where frames start, over tags, padding and a little of anything else."""
    tags = Tags(data)
    left = slack_bytes(len(data))
    at = tags.skip(0)
    while at < len(data):
        size = _FRAME_BYTES.get(data[at + 1 : at + 3]) if data[at] == 0xFF else None
        if size is None:
            following = tags.skip(at)
            if following == at:
                following = _next_frame(data, at, left)
                left -= following - at
                # Past the slack, this refuses the file.
                check_left_over(slack_bytes(len(data)) - left, len(data))
            at = following
            continue
        yield at
        at += size


def _next_frame(data: bytes, at: int, within: int) -> int:
    """Return where the next of two frames in a row, or the file, ends, if it is that near."""
    stop = min(len(data), at + within + 1)
    while found := _SYNC.search(data, at + 1, stop):
        at = found.start()
        size = _FRAME_BYTES.get(data[at + 1 : at + 3])
        if size is None:
            continue
        if starts_like_mpeg(data, at + size) and _key(data, at) == _key(data, at + size):
            return at
    # Only tags may follow what is no frame and near none.
    return len(data)


def _key(data: bytes, at: int) -> Key:
    return data[at + 1] & 0xFE, data[at + 2] & 0x0C, data[at + 3 : at + 4] >= b"\xc0"


def _read_header(frame: bytes, key: Key) -> _Part | None:
    """Return the part that a Xing, Info or VBRI header starts; None of a frame with sound."""
    if _layer(key) != _LAYER_III:
        return None
    protected = not frame[1] & 1
    at = 4 + _side_bytes(key) + (2 if protected else 0)
    if frame[at : at + 4] in (b"Xing", b"Info"):
        counts = len(frame) >= at + 12 and frame[at + 7] & 1
        return _Part(key, frame if counts else b"", at + 8 if counts else None)
    return _Part(key, b"") if frame[36:40] == b"VBRI" else None


def _with_count(part: _Part, data: bytes) -> bytes:
    """Return the part's frames after a header that counts them.

    Raises InvalidItem, AUDIO_TRUNCATED, if the part's own header counts more.
    """
    header, at = part.header, part.count_at
    if at is None:
        header = _make_header(part) if _layer(part.key) == _LAYER_III else b""
    else:
        stated = int.from_bytes(header[at : at + 4])
        if part.frames < stated * (1 - LENGTH_TOLERANCE):
            raise InvalidItem(
                Reason.AUDIO_TRUNCATED,
                f"the MP3 ends after {part.frames} of the {stated} frames that its header counts: "
                "send all of the file, or write it anew",
            )
        header = header[:at] + part.frames.to_bytes(4) + header[at + 4 :]
    view = memoryview(data)
    return b"".join((header, *(view[start:end] for start, end in part.runs)))


def _make_header(part: _Part) -> bytes:
    """Return an Info header that says nothing but how many frames follow."""
    version_and_layer, rate, mono = part.key
    # The largest frame, so that there is room in it.
    header = bytes((0xFF, version_and_layer | 1, 14 << 4 | rate, 0xC0 if mono else 0))
    info = b"Info" + (1).to_bytes(4) + part.frames.to_bytes(4)
    return (header + bytes(_side_bytes(part.key)) + info).ljust(_FRAME_BYTES[header[1:3]], b"\0")


def _side_bytes(key: Key) -> int:
    """Return the side information's size of a frame of layer III."""
    mpeg1 = key[0] >> 3 & 3 == 3
    return (17 if mpeg1 else 9) if key[2] else (32 if mpeg1 else 17)


def _layer(key: Key) -> int:
    return key[0] >> 1 & 3
