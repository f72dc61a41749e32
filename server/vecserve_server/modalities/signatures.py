"""File signatures: what bytes seem to be, for the error that refuses them."""

# First bytes of common files, from each format's specification.
_SIGNATURES = (
    (b"%PDF-", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive or an Office document"),
    (b"\x1f\x8b", "gzip-compressed data"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"GIF8", "a GIF image"),
    (b"BM", "a BMP image"),
    (b"II*\x00", "a TIFF image"),
    (b"MM\x00*", "a TIFF image"),
    (b"8BPS", "a Photoshop image"),
    (b"\x00\x00\x01\x00", "an ICO image"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\x00\x00\x00\x0cJXL ", "a JPEG XL image"),
    (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 image"),
    (b"fLaC", "FLAC audio"),
    (b"OggS", "an Ogg file"),
    (b"ID3", "MP3 audio"),
    (b"FORM", "AIFF audio"),
    (b".snd", "AU audio"),
    (b"caff", "CAF audio"),
    (b"\x30\x26\xb2\x75", "a Windows Media file"),
    (b"\x1a\x45\xdf\xa3", "a Matroska or WebM file"),
)
_RIFF_FORMS = {b"WAVE": "WAV audio", b"WEBP": "a WebP image", b"AVI ": "an AVI video"}
_ISO_IMAGE_BRANDS = {b"avif": "an AVIF image", b"heic": "a HEIC image", b"mif1": "a HEIF image"}
_ISO_AUDIO_BRANDS = {b"M4A ", b"M4B "}
# How much of the start decides whether bytes are text.
_TEXT_PROBE_BYTES = 512
_TEXT_CONTROLS = frozenset("\t\n\r\f")


def describe(data: bytes) -> str:
    """Return a short phrase for what `data`, the bytes of a file, starts like."""
    if data[:4] == b"RIFF":
        return _RIFF_FORMS.get(data[8:12], "a RIFF file")
    if data[4:8] == b"ftyp":
        brand = data[8:12]
        if brand in _ISO_AUDIO_BRANDS:
            return "M4A (AAC) audio"
        return _ISO_IMAGE_BRANDS.get(brand, "an MP4 or QuickTime file")
    for signature, name in _SIGNATURES:
        if data.startswith(signature):
            return name
    if _is_text(data[:_TEXT_PROBE_BYTES]):
        return "a text"
    return "nothing known"


def _is_text(start: bytes) -> bool:
    try:
        # The probe may end inside a character: at most 3 bytes are cut off.
        text = start.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(start) - 3:
            return False
        text = start[: error.start].decode("utf-8")
    return bool(text) and all(
        character.isprintable() or character in _TEXT_CONTROLS for character in text
    )
