"""ImageModality: what is refused and how. That the pixels are right: tests/parity."""

import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
import PIL.Image
import pytest
from PIL.PngImagePlugin import PngInfo
from pydantic import ValidationError

from vecserve_server.errors import InvalidItem
from vecserve_server.modalities.content import Limits
from vecserve_server.modalities.image import EncodedImage, ImageModality
from vecserve_server.modalities.image_formats import ACCEPTED, FORMATS
from vecserve_server.modalities.image_structure import max_scans
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


@pytest.mark.parametrize("form", FORMATS)
def test_an_image_is_one_row_of_pixels(form: str) -> None:
    prepared = PIPELINE.prepare(EncodedImage(encoded(form)), refuse_truncation=True)
    (row,) = prepared.rows
    assert list(row.feeds) == ["pixels"]
    assert row.feeds["pixels"].shape == (64, 64, 3)
    assert row.feeds["pixels"].dtype == np.uint8
    assert row.feeds["pixels"].flags.c_contiguous
    assert (row.positions, row.span) == (1, None)
    assert (prepared.token_count, prepared.truncated) == (0, False)


def test_an_exact_size_and_another_input() -> None:
    spec = ImageInput(
        resize_height=20,
        resize_width=30,
        resample="box",
        crop_height=20,
        crop_width=30,
        graph_input="image",
    )
    image = PIL.Image.fromarray(np.arange(60, dtype=np.uint8).repeat(40).reshape(60, 40)).rotate(90)
    file = BytesIO()
    image.convert("RGB").save(file, "PNG")
    modality = ImageModality(spec, Path(), Limits())
    (row,) = modality.prepare(EncodedImage(file.getvalue()), refuse_truncation=True).rows
    assert list(row.feeds) == ["image"]
    expected = np.asarray(image.convert("RGB").resize((30, 20), PIL.Image.Resampling.BOX))
    assert np.array_equal(row.feeds["image"], expected)
    assert list(modality.blank_row(1).feeds) == ["image"]
    assert [list(probe.feeds) for probe in modality.probe_rows()] == [["image"]] * 2


@pytest.mark.parametrize(
    ("rounding", "surplus", "offset"),
    # Of 1, 3 and 5 pixels too many: torchvision's CenterCrop says int(round(surplus / 2)).
    [("down", 1, 0), ("down", 3, 1), ("half_even", 1, 0), ("half_even", 3, 2), ("half_even", 5, 2)],
)
def test_where_an_odd_crop_starts(
    rounding: Literal["down", "half_even"], surplus: int, offset: int
) -> None:
    spec = ImageInput(
        resize_height=8,
        resize_width=8 + surplus,
        resample="nearest",
        crop_height=8,
        crop_width=8,
        crop_rounding=rounding,
    )
    columns = np.tile(np.arange(8 + surplus, dtype=np.uint8), (8, 1))
    file = BytesIO()
    PIL.Image.fromarray(columns).save(file, "PNG")
    prepared = ImageModality(spec, Path(), Limits()).prepare(
        EncodedImage(file.getvalue()), refuse_truncation=True
    )
    assert prepared.rows[0].feeds["pixels"][0, :, 0].tolist() == list(range(offset, offset + 8))


def test_a_manifest_of_before_there_was_a_choice_is_read() -> None:
    old = '{"kind": "image", "resize_shortest_edge": 256, "resample": "bicubic", '
    old += '"crop_height": 224, "crop_width": 224}'
    spec = ImageInput.model_validate_json(old)
    assert (spec.graph_input, spec.transparency, spec.crop_rounding) == ("pixels", "drop", "down")


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"resize_height": 8},
        {"resize_width": 8},
        {"resize_shortest_edge": 8, "resize_width": 8},
        {"resize_shortest_edge": 8, "resize_height": 8, "resize_width": 8},
    ],
)
def test_an_input_says_one_size(sizes: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match="resize_shortest_edge, or resize_height and"):
        ImageInput.model_validate({"resample": "box", "crop_height": 8, "crop_width": 8, **sizes})


def test_no_bytes() -> None:
    error = refusal(b"")
    assert error.reason == "IMAGE_EMPTY"
    assert "0 bytes" in error.message


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"These are words, not a photo.\n", "a text"),
        ("Grüße aus Köln, " * 60 + "é", "a text"),
        (b"8BPS....", "a Photoshop image"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "WAV audio"),
        (bytes(100), "nothing known"),
    ],
)
def test_what_is_no_image_is_named(data: bytes | str, what: str) -> None:
    error = refusal(data.encode() if isinstance(data, str) else data)
    assert error.reason == "IMAGE_UNREADABLE"
    assert error.message == (
        f"the image cannot be read, its bytes start like {what}: send a whole {ACCEPTED} file"
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


def progressive(scans: int, after: bytes = b"") -> bytes:
    """A JPEG of so many scans, the last one over and over; `after` follows the image."""
    file = BytesIO()
    PIL.Image.new("RGB", (64, 64), "red").save(file, "JPEG", progressive=True)
    start, end = b"\xff\xda", b"\xff\xd9"
    body, _, last = file.getvalue().removesuffix(end).rpartition(start)
    written = body.count(start)
    return body + (start + last) * (scans - written) + end + after


def test_a_jpeg_of_too_many_scans() -> None:
    PIPELINE.prepare(EncodedImage(progressive(100)), refuse_truncation=False)
    error = refusal(progressive(101))
    assert error.reason == "IMAGE_TOO_COMPLEX"
    assert "more than 100 scans" in error.message
    assert [max_scans(pixels) for pixels in (1, 12_800_000, 64_000_000)] == [100, 100, 20]
    # A film behind the picture, as phones write it, holds the marker by chance.
    motion = progressive(10, after=b"\xff\xda" * 1000)
    PIPELINE.prepare(EncodedImage(motion), refuse_truncation=False)


def test_a_png_of_too_many_chunks() -> None:
    start, end = encoded("PNG").split(b"\x00\x00\x00\x00IEND")
    text = b"tEXtk\0v"
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    data = start + chunk * (1 << 16) + b"\x00\x00\x00\x00IEND" + end
    error = refusal(data)
    assert error.reason == "IMAGE_TOO_COMPLEX"
    assert "more than 65536 chunks" in error.message


def test_memory_is_known_before_an_image_is_decoded() -> None:
    small = PIPELINE.decoded_bytes(EncodedImage(png_header(100, 100)))
    large = PIPELINE.decoded_bytes(EncodedImage(png_header(1000, 1000)))
    assert large == 100 * small
    # Of what is at most: the file, white behind it, both joined, each of 4 bytes a pixel.
    assert small >= 12 * 100 * 100
    with pytest.raises(InvalidItem):
        PIPELINE.decoded_bytes(EncodedImage(b"no image"))


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


def described_png(kind: str, size: int, count: int = 1) -> bytes:
    image = PIL.Image.open(BytesIO(encoded("PNG")))
    info = PngInfo()
    settings: dict[str, object] = {"pnginfo": info}
    for number in range(count):
        match kind:
            case "profile":
                settings["icc_profile"] = bytes(size)
            case "international":
                info.add_itxt(f"Comment {number}", "x" * size, zip=True)
            case _:
                info.add_text(f"Comment {number}", "x" * size, zip=kind == "compressed")
    exif = PIL.Image.Exif()
    exif[0x0112] = 3
    file = BytesIO()
    image.save(file, "PNG", exif=exif, **settings)
    return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "size", "count"),
    [
        ("plain", 1 << 22, 1),
        ("compressed", 1 << 22, 2),
        ("international", 1 << 22, 1),
        ("profile", 1 << 22, 1),
        ("compressed", 1_000_000, 80),
        ("plain", 1_000_000, 60),
    ],
)
def test_a_png_with_much_text_is_that_without(kind: str, size: int, count: int) -> None:
    little, much = (
        PIPELINE.prepare(EncodedImage(described_png(kind, *numbers)), refuse_truncation=False)
        .rows[0]
        .feeds["pixels"]
        for numbers in ((10, 1), (size, count))
    )
    assert np.array_equal(little, much)


def tiff(bits: int, channels: int, form: int = 1, compression: int = 1) -> bytes:
    """An uncompressed TIFF of 8 x 8 pixels, whatever its header says."""
    shorts = {256: 8, 257: 8, 259: compression, 262: 2 if channels > 2 else 1, 277: channels}
    fields = [(tag, 3, 1, struct.pack("<HH", value, 0)) for tag, value in shorts.items()]
    pixels_at = 8 + 2 + 12 * 10 + 4
    after = pixels_at + 64 * channels * bits // 8
    fields += [(tag, 4, 1, struct.pack("<I", n)) for tag, n in ((273, pixels_at), (278, 8))]
    fields.append((279, 4, 1, struct.pack("<I", after - pixels_at)))
    lists = b""
    for tag, value in ((258, bits), (339, form)):
        values = struct.pack(f"<{channels}H", *[value] * channels)
        place = struct.pack("<I", after + len(lists)) if len(values) > 4 else values.ljust(4, b"\0")
        fields.append((tag, 3, channels, place))
        lists += values
    entries = b"".join(struct.pack("<HHI", *field[:3]) + field[3] for field in sorted(fields))
    head = b"II*\0" + struct.pack("<IH", 8, len(fields)) + entries + bytes(4)
    return head + bytes(after - pixels_at) + lists


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (tiff(32, 3, form=3), "TIFF image of 3 channels of 32 bits, floating-point (convert"),
        (tiff(64, 1, form=3), "TIFF image of 1 channel of 64 bits, floating-point (convert"),
        (tiff(8, 5), "TIFF image of 5 channels of 8 bits (convert it to RGB of 8 bits"),
        (tiff(8, 3, compression=34887), "TIFF image of compression 34887 (convert"),
        (b"II+\x00\x08\x00\x00\x00" + bytes(50), "BigTIFF image (convert"),
    ],
)
def test_a_tiff_that_pillow_has_no_mode_for_says_what_it_is(data: bytes, what: str) -> None:
    PIPELINE.prepare(EncodedImage(tiff(8, 3)), refuse_truncation=False)
    error = refusal(data)
    assert error.reason == "IMAGE_UNREADABLE"
    assert f"its bytes start like a {what}" in error.message


def test_a_heic_photo_where_pillow_heif_is() -> None:
    pytest.importorskip("pillow_heif")
    file = BytesIO()
    PIL.Image.open(BytesIO(encoded("PNG"))).save(file, "HEIF")
    PIPELINE.prepare(EncodedImage(file.getvalue()), refuse_truncation=False)
