"""Structure of MP4 and Matroska files: which they are, whether they are whole.

Read before FFmpeg reads them. It takes a file that is cut off for a shorter one,
and sets aside 24 bytes for every frame that an MP4's tables state, be the file ever so
small.
"""

from collections.abc import Iterator

import numpy as np

from vecserve_server.errors import InvalidItem
from vecserve_server.modalities.signatures import describe, kind_of
from vecserve_server.reasons import Reason

MAX_PACKETS = 1 << 20
"""Packets of all streams: two hours of 60 frames a second with sound."""

_ACCEPTED = "MP4, MOV, WebM or MKV"

# ISO/IEC 14496-12 and the QuickTime file format: what a file may start with, what holds
# other boxes, and where, after the box's header, its entries are counted.
_MP4_STARTS = {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp"}
_MP4_WHOLE = _MP4_STARTS | {b"moof"}
_MP4_PARENTS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf"}
_MP4_COUNTS = {b"stsz": 8, b"stz2": 8, b"trun": 4}
_MP4_RUNS = {b"stts", b"ctts"}

# RFC 8794 and RFC 9559.
_EBML_ID = b"\x1a\x45\xdf\xa3"
_SEGMENT_ID = b"\x18\x53\x80\x67"


def check_container(data: bytes) -> str:
    """Return FFmpeg's name of the container, "mov" or "matroska".

    Raises InvalidItem: VIDEO_EMPTY, VIDEO_UNREADABLE, VIDEO_TRUNCATED, VIDEO_TOO_LARGE.
    """
    if not data:
        raise InvalidItem(Reason.VIDEO_EMPTY, "the video has 0 bytes: send a whole video file")
    if data[4:8] in _MP4_STARTS and not kind_of(data).endswith("image"):
        _check_mp4(data)
        return "mov"
    if data.startswith(_EBML_ID):
        _check_matroska(data)
        return "matroska"
    raise InvalidItem(
        Reason.VIDEO_UNREADABLE,
        f"the video cannot be read, its bytes start like {describe(data)}: send {_ACCEPTED}",
    )


def _check_mp4(data: bytes) -> None:
    packets = 0
    for kind, start, end, depth in _boxes(data):
        if depth == 0 and end > len(data) and kind in _MP4_WHOLE:
            raise _truncated(len(data), end)
        if kind in _MP4_COUNTS:
            packets += _uint32(data, start + _MP4_COUNTS[kind])
        elif kind in _MP4_RUNS:
            entries = data[start + 8 : min(end, start + 8 + 8 * _uint32(data, start + 4))]
            whole = len(entries) // 8 * 8
            counts = np.frombuffer(entries[:whole], dtype=">u4")[::2]
            # Each describes packets that are counted above.
            packets = max(packets, int(counts.sum(dtype=np.uint64)))
        if packets > MAX_PACKETS:
            raise too_many_packets()


def _boxes(data: bytes) -> Iterator[tuple[bytes, int, int, int]]:
    """Yield kind, start and end of the contents, and depth of each box; ends may lie outside."""
    # No recursion: boxes in boxes could be millions deep.
    spans = [(0, len(data), 0)]
    while spans:
        at, limit, depth = spans.pop()
        if at + 8 > limit:
            continue
        size, kind, start = _uint32(data, at), data[at + 4 : at + 8], at + 8
        if size == 1:
            size, start = int.from_bytes(data[at + 8 : at + 16]), at + 16
        elif size == 0:
            size = limit - at
        if size < start - at:
            continue
        end = at + size
        yield kind, start, end, depth
        spans.append((end, limit, depth))
        if kind in _MP4_PARENTS:
            spans.append((start, min(end, limit), depth + 1))


def _uint32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4])


def _check_matroska(data: bytes) -> None:
    size, start = _vint(data, 4)
    if size is None:
        return
    segment = start + size
    if data[segment : segment + 4] != _SEGMENT_ID:
        return
    # Without a size where it was written to a pipe, or live.
    size, start = _vint(data, segment + 4)
    if size is not None and start + size > len(data):
        raise _truncated(len(data), start + size)


def _vint(data: bytes, at: int) -> tuple[int | None, int]:
    """Return a size, None if unknown, and the place after it (RFC 8794, section 4)."""
    first = data[at] if at < len(data) else 0
    length = 9 - first.bit_length()
    if length > 8:
        return None, at
    bits = 7 * length
    value = int.from_bytes(data[at : at + length]) & ((1 << bits) - 1)
    return (None if value == (1 << bits) - 1 else value), at + length


def too_many_packets() -> InvalidItem:
    """Return the error for a file of more packets than are read."""
    return InvalidItem(
        Reason.VIDEO_TOO_LARGE,
        f"the video has more than {MAX_PACKETS} packets of pictures and sound: send it in parts",
    )


def _truncated(found: int, stated: int) -> InvalidItem:
    return InvalidItem(
        Reason.VIDEO_TRUNCATED,
        f"the video has {found} of the {stated} bytes that it states: send all of the file",
    )
