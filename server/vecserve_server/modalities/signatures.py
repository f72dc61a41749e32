"""File signatures: what bytes seem to be, for the error that refuses them."""

import re
from base64 import b64decode

from vecserve_server.modalities.image_formats import FORMATS
from vecserve_server.modalities.tiff_header import describe_tiff

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
    (b"II+\x00", "a TIFF image"),
    (b"MM\x00+", "a TIFF image"),
    (b"\xff\xfe", "UTF-16 text"),
    (b"\xfe\xff", "UTF-16 text"),
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
# By brand (ISO/IEC 14496-12, 23000-22, AV1-AVIF): those of a format before the general ones.
_ISO_BRANDS = (
    ({b"avif", b"avis"}, "an AVIF image"),
    ({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}, "a HEIC image"),
    ({b"mif1", b"msf1"}, "a HEIF image"),
    ({b"crx "}, "a Canon raw image"),
    ({b"M4A ", b"M4B ", b"M4P "}, "M4A (AAC) audio"),
)
# How much of the start decides whether bytes are text, and of what kind.
_TEXT_PROBE_BYTES = 512
_TEXT_CONTROLS = frozenset("\t\n\r\f")
_TEXT_FIRST = _TEXT_CONTROLS | {"\ufeff"}
_MARKUP_TAG = re.compile(r"<(svg|html|body|head|script)\b", re.IGNORECASE)
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{16,}={0,2}\s*")

# What to do with files of which nothing else would come to mind.
_REMEDIES = {
    "AAC audio in ADTS": "convert it, for instance with `ffmpeg -i IN OUT.flac`",
    "M4A (AAC) audio": "convert it, for instance with `ffmpeg -i IN OUT.flac`",
    "an AVIF image": "convert it to PNG, or update Pillow on the server",
    "a HEIC image": "convert it to JPEG, or install pillow-heif on the server",
    "a HEIF image": "convert it to JPEG, or install pillow-heif on the server",
    "a Canon raw image": "develop it to JPEG",
    "an SVG drawing": "render it to PNG",
    "a PDF document": "render its pages to PNG, or extract its text",
    "an HTML page": "check the download, it may say why there is no file",
    "a URL": "fetch it and send the bytes that come",
    "a data URI": "decode what follows the comma",
    "gzip-compressed data": "unpack it",
}
_PILLOW_NAMES = {"an AVIF image": "AVIF", "a HEIC image": "HEIF", "a HEIF image": "HEIF"}


def describe(data: bytes) -> str:
    """Return what `data`, the bytes of a file, starts like, and what to do if it is known."""
    what = kind_of(data)
    if what.startswith("base64"):
        return f"{what} (decode it)"
    if what == "a TIFF image":
        return describe_tiff(data)
    if _PILLOW_NAMES.get(what) in FORMATS:  # damaged, then
        return what
    return f"{what} ({_REMEDIES[what]})" if what in _REMEDIES else what


def kind_of(data: bytes) -> str:
    """Return a short phrase for what `data`, the bytes of a file, starts like."""
    if data[:4] == b"RIFF":
        return _RIFF_FORMS.get(data[8:12], "a RIFF file")
    if data[4:8] == b"ftyp":
        return _iso_kind(data)
    if data[:1] == b"\xff" and data[1:2] in (b"\xf0", b"\xf1", b"\xf8", b"\xf9"):
        return "AAC audio in ADTS"
    for signature, name in _SIGNATURES:
        if data.startswith(signature):
            return name
    text = _text(data[:_TEXT_PROBE_BYTES])
    return _text_kind(text) if text else "nothing known"


def _iso_kind(data: bytes) -> str:
    """Name an ISO file by its main brand, or, if that is general, by a compatible one."""
    box = data[8 : min(int.from_bytes(data[:4]), _TEXT_PROBE_BYTES)]
    main, compatible = box[:4] or data[8:12], {box[at : at + 4] for at in range(8, len(box), 4)}
    for brands, name in _ISO_BRANDS:
        if main in brands or (main in (b"mif1", b"msf1") and compatible & brands):
            return name
    return "an MP4 or QuickTime file"


def _text_kind(text: str) -> str:
    start = text.lstrip("\ufeff \t\r\n")
    if start[:5].lower() == "data:" and "," in start:
        return "a data URI"
    if start[:8].lower().startswith(("http://", "https://")):
        return "a URL"
    if start.startswith("<"):
        if start[:14].lower() == "<!doctype html":
            return "an HTML page"
        if tag := _MARKUP_TAG.search(start):
            return "an SVG drawing" if tag[1].lower() == "svg" else "an HTML page"
    if base64 := _BASE64.match(start):
        letters = base64[0].strip().rstrip("=").translate({ord("-"): "+", ord("_"): "/"})
        held = kind_of(b64decode(letters[: len(letters) // 4 * 4]))
        if held not in ("a text", "nothing known"):
            return f"base64 of {held}"
    return "a text"


def _text(start: bytes) -> str:
    """Return the text that bytes start with; empty if they are none."""
    try:
        # The probe may end inside a character: at most 3 bytes are cut off.
        text = start.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(start) - 3:
            return ""
        text = start[: error.start].decode("utf-8")
    whole = all(character.isprintable() or character in _TEXT_CONTROLS for character in text[1:])
    # The first may be a byte order mark.
    return text if whole and (text[:1].isprintable() or text[:1] in _TEXT_FIRST) else ""
