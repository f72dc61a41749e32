"""FLAC structure: files in a row, and lengths that their writers did not know (RFC 9639)."""

import re
from collections.abc import Iterator

from vecserve_server.errors import InvalidItem
from vecserve_server.modalities.audio_tolerance import LENGTH_TOLERANCE
from vecserve_server.reasons import Reason

# The marker and the head of STREAMINFO, the first block of metadata.
_START = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")
_MAX_METADATA_BLOCKS = 1024
# Places that look like the last frame, from the end, before it is given up.
_MAX_CANDIDATES = 1000
# Where STREAMINFO counts the samples: in the low half of this byte and the next four.
_COUNT_AT = 21
_CRC8_POLYNOMIAL = 0x07
# Block sizes by code; 6 and 7 stand for sizes at the header's end, 0 for none.
_BLOCK_SIZES = (0, 192, 576, 1152, 2304, 4608, 0, 0, *(256 << shift for shift in range(8)))


def flac_parts(data: bytes) -> Iterator[bytes]:
    """Yield each FLAC file of one or several in a row, with a header that counts its samples.

    Raises InvalidItem: AUDIO_TRUNCATED.
    """
    start = 0
    while start < len(data):
        frames_at = _end_of_metadata(data, start)
        following = _START.search(data, frames_at)
        end = following.start() if following else len(data)
        yield _counted(data if end - start == len(data) else data[start:end], frames_at - start)
        start = end


def _end_of_metadata(data: bytes, start: int) -> int:
    at = start + 4
    for _ in range(_MAX_METADATA_BLOCKS):
        head = data[at : at + 4]
        at += 4 + int.from_bytes(head[1:])
        if len(head) < 4 or head[0] & 0x80:
            break
    return at


def _counted(part: bytes, frames_at: int) -> bytes:
    """Return a FLAC file whose header counts at least the samples that its last frame ends with.

    libsndfile stops where the count says, and fails at the end of a file without one.
    """
    field = part[_COUNT_AT : _COUNT_AT + 5]
    stated = int.from_bytes(field) & 0xF_FFFF_FFFF
    found = _samples(part, frames_at)
    if found is None or stated * (1 - LENGTH_TOLERANCE) <= found <= stated:
        return part
    if found < stated:
        raise InvalidItem(
            Reason.AUDIO_TRUNCATED,
            f"the audio ends after {found} of the {stated} frames that its header promises: "
            "send all of the file, or write it anew",
        )
    count = (((field[0] >> 4) << 36) | found).to_bytes(5)
    return part[:_COUNT_AT] + count + part[_COUNT_AT + 5 :]


def _samples(part: bytes, frames_at: int) -> int | None:
    """Return where the last frame ends, in samples; None if no frame is found."""
    first = part[frames_at : frames_at + 4]
    if len(first) < 4 or first[0] != 0xFF or first[1] & 0xFE != 0xF8:
        return None
    block = int.from_bytes(part[10:12])  # STREAMINFO's largest, which all but the last have
    at = len(part)
    for _ in range(_MAX_CANDIDATES):
        at = part.rfind(first[:2], frames_at, at)
        if at < 0:
            return None
        header = part[at : at + 16]
        # The sample rate and size are the same in all frames.
        same = len(header) > 4 and not (header[2] ^ first[2]) & 0x0F
        if same and not (header[3] ^ first[3]) & 0x0F:
            end = _frame_end(header, block)
            if end is not None and end < 1 << 36:
                return end
    return None


def _frame_end(header: bytes, block: int) -> int | None:
    """Return the sample that a frame ends before; None if the header's checksum is wrong."""
    # The number is written like a character of UTF-8, but with up to seven bytes.
    ones = 8 - (header[4] ^ 0xFF).bit_length()
    width = max(ones, 1)
    number = header[4] & (0x7F >> ones)
    for byte in header[5 : 4 + width]:
        number = number << 6 | byte & 0x3F
    at = 4 + width
    size_code, rate_code = header[2] >> 4, header[2] & 0x0F
    size = _BLOCK_SIZES[size_code]
    if size_code in (6, 7):
        size = int.from_bytes(header[at : at + size_code - 5]) + 1
        at += size_code - 5
    at += {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    if ones in (1, 8) or not size or at >= len(header) or _crc8(header[:at]) != header[at]:
        return None
    numbers_samples = header[1] & 1
    return (number if numbers_samples else number * block) + size


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ (_CRC8_POLYNOMIAL if crc & 0x80 else 0)) & 0xFF
    return crc
