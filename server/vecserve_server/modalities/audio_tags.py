"""Tags of audio files: ID3, APE and Lyrics3, wherever they stand, and padding."""

import re
from itertools import islice

_ZEROS = re.compile(rb"\x00+")
_APE = re.compile(rb"APETAGEX")
_APE_BYTES = 32
_APE_HAS_HEADER, _APE_IS_HEADER = 1 << 31, 1 << 29
# Tags of a file beyond these are not looked for.
_MAX_TAGS = 4096
_ID3V2_BYTES = 10
# Largest of Lyrics3 v2, whose size has six digits.
_LYRICS_BYTES = 1 << 20


class Tags:
    """The tags of a file, by where they start."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._ape = _ape_tags(data)
        self._left = _MAX_TAGS

    def skip(self, at: int) -> int:
        """Return where what starts there and is no sound ends: all tags and zeros in a row."""
        while self._left and (end := self._end(at)) > at:
            at = end
            self._left -= 1
        return at

    def _end(self, at: int) -> int:
        data = self._data
        if at in self._ape:  # before zeros: one without a header may start with some
            return self._ape[at]
        if zeros := _ZEROS.match(data, at):
            return zeros.end()
        head = data[at : at + 4]
        if head == b"TAG+":  # the enhanced tag that stands before an ID3v1
            return at + 227
        if head[:3] == b"TAG":
            return at + 128
        if head[:3] == b"ID3":
            return at + _id3v2_bytes(data[at : at + _ID3V2_BYTES])
        if data[at : at + 11] == b"LYRICSBEGIN":
            end = data.find(b"LYRICS", at + 11, at + _LYRICS_BYTES)
            return end + 9 if end > 0 else at
        return at


def _id3v2_bytes(head: bytes) -> int:
    """Return the size of an ID3v2 tag: 4 x 7 bits, header and footer not counted."""
    if len(head) < _ID3V2_BYTES or any(byte & 0x80 for byte in head[6:]):
        return 0
    size = 0
    for byte in head[6:]:
        size = size << 7 | byte
    return size + _ID3V2_BYTES * (2 if head[5] & 0x10 else 1)


def _ape_tags(data: bytes) -> dict[int, int]:
    """Return the end of each APE tag by its start, found by its header or, without one, its footer.

    The size counts items and footer, not the header.
    """
    tags = {}
    for found in islice(_APE.finditer(data), _MAX_TAGS):
        at = found.start()
        size = int.from_bytes(data[at + 12 : at + 16], "little")
        flags = int.from_bytes(data[at + 20 : at + 24], "little")
        if flags & _APE_IS_HEADER:
            tags[at] = at + _APE_BYTES + size
        elif not flags & _APE_HAS_HEADER:
            tags[at + _APE_BYTES - size] = at + _APE_BYTES
    return tags
