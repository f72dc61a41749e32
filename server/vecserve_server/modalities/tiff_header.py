"""TIFF header: the samples of an image that Pillow has no mode for (TIFF 6.0)."""

_REMEDY = "convert it to RGB of 8 bits a channel"
_BITS, _COMPRESSION, _CHANNELS, _FORMAT = 258, 259, 277, 339
_SHORT = 3
_FORMATS = {2: "signed", 3: "floating-point", 5: "complex", 6: "complex floating-point"}
# Those that libtiff reads wherever Pillow is installed: none, CCITT, LZW, JPEG, deflate, PackBits.
_COMPRESSIONS = {1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946}
_MAX_ENTRIES = 1000


def describe_tiff(data: bytes) -> str:
    """Return what a TIFF file is, with the unusual of its first image and what to do about it."""
    order = "little" if data[:2] == b"II" else "big"

    def number(at: int, size: int = 2) -> int:
        return int.from_bytes(data[at : at + size], order)  # type: ignore[arg-type]

    if number(2) == 43:
        return f"a BigTIFF image ({_REMEDY} and save it as TIFF or PNG)"
    directory = number(4, 4)
    fields: dict[int, int] = {}
    for entry in range(min(number(directory), _MAX_ENTRIES)):
        at = directory + 2 + 12 * entry
        if number(at + 2) == _SHORT:
            # Two values fit; of more the place of the first is there, and all are alike.
            few = number(at + 4, 4) <= 2
            fields[number(at)] = number(at + 8 if few else number(at + 8, 4))
    bits, channels = fields.get(_BITS, 1), fields.get(_CHANNELS, 1)
    form = _FORMATS.get(fields.get(_FORMAT, 1), "")
    compression = fields.get(_COMPRESSION, 1)
    if compression not in _COMPRESSIONS:
        return f"a TIFF image of compression {compression} ({_REMEDY}, compressed with LZW or not)"
    if form or bits not in (0, 1, 8) or channels not in (1, 3, 4):
        samples = f"{channels} channel{'s' if channels > 1 else ''} of {bits} bits"
        return f"a TIFF image of {samples}{form and ', '}{form} ({_REMEDY})"
    return "a TIFF image"
