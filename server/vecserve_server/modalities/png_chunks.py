"""PNG chunks that only describe the image: dropped where Pillow would refuse the file for them.

Pillow reads at most 1 MiB of a compressed text or colour profile, and 64 MiB in all
(PngImagePlugin.MAX_TEXT_CHUNK, MAX_TEXT_MEMORY). None of them changes a pixel here.
"""

import zlib

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHUNK_BYTES = 12
_MAX_CHUNKS = 1 << 16
_MAX_TEXT_BYTES = 1 << 20
_MAX_ALL_TEXT_BYTES = 32 << 20


def without_large_text(data: bytes) -> bytes:
    """Return a PNG file without texts and profiles over those bounds; other files as they are."""
    if not data.startswith(_SIGNATURE):
        return data
    kept: list[bytes] = []
    start = at = len(_SIGNATURE)
    total = 0
    for _ in range(_MAX_CHUNKS):
        if at + _CHUNK_BYTES > len(data):
            break
        end = at + _CHUNK_BYTES + int.from_bytes(data[at : at + 4])
        text = _text_bytes(data[at + 4 : at + 8], data[at + 8 : end - 4], total)
        total += text or 0
        if text is None or (text and total > _MAX_ALL_TEXT_BYTES):
            kept.append(data[start:at])
            start = end
        at = end
    return b"".join((_SIGNATURE, *kept, data[start:])) if kept else data


def _text_bytes(kind: bytes, body: bytes, total: int) -> int | None:
    """Return how many bytes of text a chunk holds, 0 if it is no text; None if too many."""
    if kind not in (b"tEXt", b"zTXt", b"iTXt", b"iCCP"):
        return 0
    _, _, packed = body.partition(b"\0")
    if kind == b"iTXt" and packed[:1] != b"\0":  # compressed: method, language, translated keyword
        packed = packed[2:].split(b"\0", 2)[-1]
    elif kind in (b"tEXt", b"iTXt"):
        return len(body)
    else:
        packed = packed[1:]
    if total > _MAX_ALL_TEXT_BYTES:
        return None
    inflater = zlib.decompressobj()
    try:
        size = len(inflater.decompress(packed, _MAX_TEXT_BYTES))
    except zlib.error:  # Pillow takes it for no text
        return 0
    return None if inflater.unconsumed_tail else size
