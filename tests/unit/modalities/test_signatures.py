"""Signatures: what a file seems to be, and what its sender can do about it."""

import base64
from io import BytesIO

import PIL.Image
import pytest

from vecserve_server.modalities.signatures import describe, kind_of


def iso(main: bytes, *compatible: bytes) -> bytes:
    body = main + bytes(4) + b"".join(compatible)
    return (len(body) + 8).to_bytes(4) + b"ftyp" + body + b"\x00\x00\x00\x08meta"


def photo(form: str) -> bytes:
    file = BytesIO()
    PIL.Image.new("RGB", (64, 64), "red").save(file, form)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (iso(b"avif", b"mif1"), "an AVIF image"),
        (iso(b"avis", b"msf1"), "an AVIF image"),
        (iso(b"mif1", b"miaf", b"avif"), "an AVIF image"),
        (iso(b"mif1", b"heic"), "a HEIC image"),
        (iso(b"msf1", b"hevc"), "a HEIC image"),
        *((iso(brand, b"mif1"), "a HEIC image") for brand in (b"heic", b"heix", b"heim", b"hevx")),
        (iso(b"mif1", b"unci"), "a HEIF image"),
        (iso(b"crx "), "a Canon raw image"),
        (iso(b"isom", b"avif", b"mp42"), "an MP4 or QuickTime file"),
        (iso(b"qt  "), "an MP4 or QuickTime file"),
        (iso(b"M4A "), "M4A (AAC) audio"),
        (b"\x00\x00\x00\x00ftyp", "an MP4 or QuickTime file"),
        (photo("AVIF"), "an AVIF image"),
        (b"\xff\xf1\x50\x80", "AAC audio in ADTS"),
        (b"\xff\xf9\x50\x80", "AAC audio in ADTS"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'>", "an SVG drawing"),
        (b"<?xml version='1.0'?>\n<!-- drawn -->\n<svg width='1'>", "an SVG drawing"),
        (b"\n <!DOCTYPE html><html><svg>", "an HTML page"),
        ("\ufeff<html lang='de'>".encode(), "an HTML page"),
        (b"<?xml version='1.0'?><feed>", "a text"),
        (b"<- this way", "a text"),
        (b"https://example.org/cat.jpg", "a URL"),
        (b"data:image/png;base64,iVBORw0KGgo", "a data URI"),
        (b"data: a text, too", "a data URI"),
        *(
            (encode(photo(form)), f"base64 of {kind}")
            for encode in (base64.b64encode, base64.urlsafe_b64encode, base64.encodebytes)
            for form, kind in [("JPEG", "a JPEG image"), ("PNG", "a PNG image")]
        ),
        (b"Donaudampfschifffahrtsgesellschaftskapitaen", "a text"),
        ("Hallo".encode("utf-16"), "UTF-16 text"),
        ("\ufeffHallo".encode("utf-16-be"), "UTF-16 text"),
        ("\ufeffHallo".encode(), "a text"),
        (b"\xef\xbb\xbf\x00", "nothing known"),
        (b"", "nothing known"),
    ],
)
def test_kinds(data: bytes, kind: str) -> None:
    assert kind_of(data) == kind
    assert describe(data).startswith(kind)


@pytest.mark.parametrize(
    ("data", "remedy"),
    [
        (b"<svg>", "(render it to PNG)"),
        (b"<html>", "(check the download"),
        (b"https://example.org/", "(fetch it"),
        (b"data:,x", "(decode what follows the comma)"),
        (base64.b64encode(photo("JPEG")), "(decode it)"),
        (iso(b"heic"), "(convert it to JPEG"),
        (b"\xff\xf1\x50\x80", "(convert it, for instance with `ffmpeg"),
        (b"%PDF-1.7", "(render its pages"),
    ],
)
def test_remedies(data: bytes, remedy: str) -> None:
    assert remedy in describe(data)
