"""Ogg pages: where the links of a chained file start (RFC 3533)."""

import re
from collections.abc import Iterator
from itertools import islice

from vecserve_server.modalities.audio_tolerance import check_left_over

# Version 0, and the flag of a stream's first page among the others.
_FIRST_PAGE = re.compile(rb"OggS\x00[\x02\x03\x06\x07]")
_PAGE = b"OggS\x00"
_HEADER_BYTES = 27
# Links that are looked for; fewer are taken.
_MAX_FIRST_PAGES = 4096


def ogg_parts(data: bytes) -> Iterator[bytes]:
    """Yield each link of an Ogg file. Raises InvalidItem: AUDIO_LENGTH_WRONG."""
    end = _page_end(data, data.rfind(_PAGE))
    check_left_over(len(data) - end, len(data))
    data = data[:end]  # libsndfile takes no less than a page
    start = expected = 0
    for page in islice(_FIRST_PAGE.finditer(data), _MAX_FIRST_PAGES):
        # Streams side by side have their first pages side by side.
        if page.start() != expected:
            yield data[start : page.start()]
            start = page.start()
        expected = _page_end(data, page.start())
    yield data[start:]


def _page_end(data: bytes, at: int) -> int:
    """Return where a page ends: header, lengths of its segments, segments."""
    start = at + _HEADER_BYTES
    count = data[start - 1] if start <= len(data) else 0
    lengths = data[start : start + count]
    return start + len(lengths) + sum(lengths)
