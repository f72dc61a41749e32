"""ImageModality: what is refused and how. That the pixels are right: tests/parity."""

import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from vecserve_server.errors import InvalidItem
from vecserve_server.modalities.content import Limits
from vecserve_server.modalities.image import EncodedImage, ImageModality
from vecserve_server.repository.manifest import ImageInput

SPEC = ImageInput(resize_shortest_edge=64, resample="bicubic", crop_height=64, crop_width=64)
PIPELINE = ImageModality(SPEC, Path(), Limits(max_image_pixels=1_000_000))


def encoded(form: str, size: tuple[int, int] = (200, 150), mode: str = "RGB") -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    file = BytesIO()
    PIL.Image.fromarray(noise).convert(mode).save(file, form)
    return file.getvalue()


def refusal(data: bytes) -> InvalidItem:
    with pytest.raises(InvalidItem) as raised:
        PIPELINE.prepare(EncodedImage(data), refuse_truncation=False)
    return raised.value


def png_header(width: int, height: int) -> bytes:
    """A PNG that states a size and holds nothing."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = b"IDAT"
    chunks = [
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in (header, body)
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_an_image_is_one_row_of_pixels(form: str) -> None:
    prepared = PIPELINE.prepare(EncodedImage(encoded(form)), refuse_truncation=True)
    (row,) = prepared.rows
    assert list(row.feeds) == ["pixels"]
    assert row.feeds["pixels"].shape == (64, 64, 3)
    assert row.feeds["pixels"].dtype == np.uint8
    assert row.feeds["pixels"].flags.c_contiguous
    assert (row.positions, row.span) == (1, None)
    assert (prepared.token_count, prepared.truncated) == (0, False)


def test_no_bytes() -> None:
    error = refusal(b"")
    assert error.reason == "IMAGE_EMPTY"
    assert "0 bytes" in error.message


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"These are words, not a photo.\n", "a text"),
        ("Grüße aus Köln, " * 60 + "é", "a text"),
        (b"%PDF-1.7 ...", "a PDF document"),
        (b"\x00\x00\x00\x18ftypheic....", "a HEIC image"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "WAV audio"),
        (bytes(100), "nothing known"),
    ],
)
def test_what_is_no_image_is_named(data: bytes | str, what: str) -> None:
    error = refusal(data.encode() if isinstance(data, str) else data)
    assert error.reason == "IMAGE_UNREADABLE"
    assert error.message == (
        f"the image cannot be read, its bytes start like {what}: "
        "send a whole JPEG, PNG, WebP, GIF, BMP or TIFF file"
    )


@pytest.mark.parametrize("form", ["PPM", "ICO", "TGA", "JPEG2000", "ICNS", "SGI"])
def test_other_decoders_are_out_of_reach(form: str) -> None:
    assert refusal(encoded(form, (64, 64))).reason == "IMAGE_UNREADABLE"


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP", "TIFF"])
def test_a_file_that_lacks_its_end(form: str) -> None:
    data = encoded(form)
    error = refusal(data[: len(data) // 2])
    assert error.reason in ("IMAGE_TRUNCATED", "IMAGE_UNREADABLE")
    if form != "TIFF":  # its directory lies at the end
        assert error.reason == "IMAGE_TRUNCATED"
        assert error.message.endswith("send all of the file")


def test_the_size_is_read_from_the_header() -> None:
    error = refusal(png_header(1001, 1000))
    assert error.reason == "IMAGE_TOO_LARGE"
    assert error.message == (
        "the image is 1001 x 1000 pixels, the server takes 1000000 in all: crop it or scale it down"
    )
    # Of one pixel less only the data is missing.
    assert refusal(png_header(1000, 1000)).reason == "IMAGE_TRUNCATED"


def test_a_decompression_bomb() -> None:
    assert refusal(png_header(2**20, 2**20)).reason == "IMAGE_TOO_LARGE"


def test_an_image_too_thin_to_resize() -> None:
    PIPELINE.prepare(EncodedImage(encoded("PNG", (10, 2000))), refuse_truncation=False)
    error = refusal(encoded("PNG", (1, 10_000)))
    assert error.reason == "IMAGE_TOO_LARGE"
    assert "so thin that resizing makes it 64 x 640000 pixels" in error.message


@pytest.mark.parametrize("mode", ["I", "F"])
def test_samples_of_unknown_scale(mode: str) -> None:
    error = refusal(encoded("TIFF", mode=mode))
    assert error.reason == "IMAGE_UNSUPPORTED"
    assert "convert it to 8 or 16 bits" in error.message


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")  # Pillow's
def test_damaged_exif_data_is_no_reason_to_refuse_a_photo() -> None:
    photo = PIL.Image.open(BytesIO(encoded("PNG")))
    plain, damaged = BytesIO(), BytesIO()
    photo.save(plain, "JPEG")
    photo.save(damaged, "JPEG", exif=b"Exif\x00\x00II*\x00\x08\x00\x00\x00\xff\xff\x12\x01\x03")
    intact, mended = (
        PIPELINE.prepare(EncodedImage(file.getvalue()), refuse_truncation=False)
        .rows[0]
        .feeds["pixels"]
        for file in (plain, damaged)
    )
    assert np.array_equal(intact, mended)


def test_the_first_frame_of_an_animation() -> None:
    frames = [PIL.Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    savers: list[tuple[str, Callable[[BytesIO], None]]] = [
        ("GIF", lambda file: frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])),
        (
            "WEBP",
            lambda file: frames[0].save(
                file, "WEBP", save_all=True, append_images=frames[1:], lossless=True
            ),
        ),
    ]
    for form, save in savers:
        file = BytesIO()
        save(file)
        (row,) = PIPELINE.prepare(EncodedImage(file.getvalue()), refuse_truncation=False).rows
        assert (row.feeds["pixels"] == (255, 0, 0)).all(), form
