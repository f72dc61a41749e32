"""Parts of an image file, counted before it is decoded: each costs time, whatever its size.

A JPEG's scan goes over the whole image in a few bytes: 3,000 of them in 187 KB took 30 s of CPU
(4000 x 4000 pixels, libjpeg-turbo 3). libjpeg-turbo names the attack and bounds scans where its
caller asks for it (djpeg -maxscans, TJPARAM_SCANLIMIT; 500 in its own fuzz targets, for a
megapixel at most), Pillow cannot ask. A PNG's chunk of 12 bytes is a turn of Pillow's loop.
"""

import re

# Ten times what libjpeg writes (jpeg_simple_progression: 10 of a colour image), and twice that
# of an image so large that its scans take long: 100 of 64 megapixels took 8.2 s of CPU.
_MAX_SCANS, _MIN_SCANS = 100, 20
_MAX_SCANNED_PIXELS = 1_280_000_000

MAX_CHUNKS = 1 << 16
"""libpng writes chunks of 8 KiB: half a gigabyte of them."""

_START_OF_SCAN = b"\xff\xda"
_END_OF_IMAGE, _TEMPORARY = 0xD9, 0x01
# What may follow 0xFF and is a marker (ITU-T T.81, B.1.1.2); RST0 to RST7 are part of a scan.
_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
_PNG_HEADER_BYTES, _PNG_CHUNK_BYTES = 8, 12


def max_scans(pixels: int) -> int:
    """Return how many scans a JPEG of so many pixels may have."""
    return min(_MAX_SCANS, max(_MIN_SCANS, _MAX_SCANNED_PIXELS // max(pixels, 1)))


def has_more_scans(jpeg: bytes, most: int) -> bool:
    """Whether a JPEG file has more than `most` scans."""
    # Nearly all files: also a scan's marker in a thumbnail, or by chance in what follows the
    # image, counts here.
    if jpeg.count(_START_OF_SCAN) <= most:
        return False
    scans, at = 0, 2
    while scans <= most and (found := _MARKER.search(jpeg, at)):
        at, kind = found.end(), found[1][0]
        if kind == _END_OF_IMAGE:
            return False
        scans += kind == _START_OF_SCAN[1]
        if kind != _TEMPORARY:
            at += int.from_bytes(jpeg[at : at + 2])
    return scans > most


def too_many_chunks(png: bytes) -> bool:
    """Whether a PNG file has more than MAX_CHUNKS chunks."""
    if len(png) <= MAX_CHUNKS * _PNG_CHUNK_BYTES:
        return False
    chunks, at = 0, _PNG_HEADER_BYTES
    while chunks <= MAX_CHUNKS and at < len(png):
        chunks += 1
        at += _PNG_CHUNK_BYTES + int.from_bytes(png[at : at + 4])
    return chunks > MAX_CHUNKS
