"""The image pipeline gives the very pixels of Hugging Face's Pillow processors.

The reference turns the file upright and runs the family's processor without
rescaling and normalising, which are in the graph. Both sides then hold uint8
crops, and they are equal bit by bit. CLIP's processor converts to RGB itself, and
so gets the file as it was opened, transparency and all; ConvNeXt's takes RGB only,
which `transformers.image_utils.load_image` makes.
"""

from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageOps
import pytest
from transformers.image_utils import load_image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil

from tests.support.testdata import clip_fixture, photos
from vecserve_server.modalities.content import Limits
from vecserve_server.modalities.image import EncodedImage, ImageModality
from vecserve_server.repository.manifest import ImageInput

Pixels = npt.NDArray[np.uint8]

CLIP = ImageInput(
    resize_shortest_edge=224,
    resample="bicubic",
    crop_height=224,
    crop_width=224,
    transparency="white",
)
RESNET = ImageInput(resize_shortest_edge=256, resample="bicubic", crop_height=224, crop_width=224)
# What one shortest edge below the crop asks for: black borders.
PADDED = ImageInput(
    resize_shortest_edge=201,
    resample="lanczos",
    crop_height=224,
    crop_width=230,
    transparency="white",
)
ODD = ImageInput(
    resize_shortest_edge=235,
    resample="bilinear",
    crop_height=224,
    crop_width=199,
    transparency="white",
)
LANCZOS, BILINEAR, BICUBIC = 1, 2, 3


def clip_reference(image: PIL.Image.Image, spec: ImageInput = CLIP, resample: int = 3) -> Pixels:
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": spec.resize_shortest_edge},
        crop_size={"height": spec.crop_height, "width": spec.crop_width},
        resample=resample,
        do_rescale=False,
        do_normalize=False,
    )
    return np.moveaxis(processor(image)["pixel_values"][0], 0, -1)


def resnet_reference(image: PIL.Image.Image) -> Pixels:
    # The settings of microsoft/resnet-50.
    processor = ConvNextImageProcessorPil(
        size={"shortest_edge": 224},
        crop_pct=0.875,
        resample=BICUBIC,
        do_rescale=False,
        do_normalize=False,
    )
    return np.moveaxis(processor(image)["pixel_values"][0], 0, -1)


def prepare(data: bytes, spec: ImageInput) -> Pixels:
    prepared = ImageModality(spec, Path(), Limits()).prepare(
        EncodedImage(data), refuse_truncation=False
    )
    (row,) = prepared.rows
    pixels = row.feeds["pixels"]
    assert pixels.dtype == np.uint8
    assert pixels.shape == (spec.crop_height, spec.crop_width, 3)
    return pixels.astype(np.uint8, copy=False)


def assert_equal_to_references(data: bytes, image: PIL.Image.Image | None = None) -> None:
    """Compare with what the processors make of the file, or of `image` in its place."""
    upright = image or PIL.ImageOps.exif_transpose(PIL.Image.open(BytesIO(data)))
    assert np.array_equal(prepare(data, CLIP), clip_reference(upright))
    assert np.array_equal(prepare(data, PADDED), clip_reference(upright, PADDED, LANCZOS))
    assert np.array_equal(prepare(data, ODD), clip_reference(upright, ODD, BILINEAR))
    loaded = image or load_image(PIL.Image.open(BytesIO(data)))
    assert np.array_equal(prepare(data, RESNET), resnet_reference(loaded))


@pytest.fixture(scope="module")
def photo() -> PIL.Image.Image:
    """A photo of odd, unequal sides: every rounding shows."""
    return PIL.Image.open(photos()[3]).convert("RGB").resize((501, 335))


def encoded(image: PIL.Image.Image, form: str, **settings: object) -> bytes:
    file = BytesIO()
    image.save(file, form, **settings)
    return file.getvalue()


@pytest.mark.parametrize("path", photos(), ids=lambda path: path.stem)
def test_photos(path: Path) -> None:
    data = path.read_bytes()
    assert_equal_to_references(data)


@pytest.mark.parametrize(
    "size", [(1, 1), (2, 300), (224, 224), (256, 100), (333, 1000), (900, 901)]
)
def test_sizes(photo: PIL.Image.Image, size: tuple[int, int]) -> None:
    data = encoded(photo.resize(size), "PNG")
    assert_equal_to_references(data)


def _rgba(photo: PIL.Image.Image) -> PIL.Image.Image:
    image = photo.convert("RGBA")
    image.putalpha(PIL.Image.linear_gradient("L").resize(photo.size))
    return image


def _orientation(value: int) -> PIL.Image.Exif:
    exif = PIL.Image.Exif()
    exif[0x0112] = value
    return exif


def _oriented_jpeg(value: int, photo: PIL.Image.Image) -> bytes:
    return encoded(photo, "JPEG", exif=_orientation(value))


FILES: dict[str, Callable[[PIL.Image.Image], bytes]] = {
    "grayscale jpeg": lambda p: encoded(p.convert("L"), "JPEG"),
    "progressive jpeg": lambda p: encoded(p, "JPEG", progressive=True, quality=95),
    "cmyk jpeg": lambda p: encoded(p.convert("CMYK"), "JPEG"),
    "cmyk tiff": lambda p: encoded(p.convert("CMYK"), "TIFF", compression="tiff_lzw"),
    "rgb tiff": lambda p: encoded(p, "TIFF"),
    "cielab tiff": lambda p: encoded(p.convert("LAB"), "TIFF"),
    "palette png": lambda p: encoded(p.convert("P", palette=PIL.Image.Palette.ADAPTIVE), "PNG"),
    "palette png, one transparent": lambda p: encoded(p.convert("P"), "PNG", transparency=7),
    "rgb png, one transparent": lambda p: encoded(p, "PNG", transparency=(1, 2, 3)),
    "gray png, one transparent": lambda p: encoded(p.convert("L"), "PNG", transparency=9),
    "one-bit png, one transparent": lambda p: encoded(p.convert("1"), "PNG", transparency=0),
    "rgba png": lambda p: encoded(_rgba(p), "PNG"),
    "gray and alpha png": lambda p: encoded(_rgba(p).convert("LA"), "PNG"),
    "one-bit png": lambda p: encoded(p.convert("1"), "PNG"),
    "one-bit fax tiff": lambda p: encoded(p.convert("1"), "TIFF", compression="group4"),
    "gif": lambda p: encoded(p, "GIF"),
    "animated gif": lambda p: encoded(
        p, "GIF", save_all=True, append_images=[p.rotate(90), p.rotate(180)]
    ),
    "transparent gif": lambda p: encoded(p.convert("P"), "GIF", transparency=3),
    "bmp": lambda p: encoded(p, "BMP"),
    "palette bmp": lambda p: encoded(p.convert("P"), "BMP"),
    "webp": lambda p: encoded(p, "WEBP"),
    "lossless webp with alpha": lambda p: encoded(_rgba(p), "WEBP", lossless=True),
    **{f"jpeg, exif orientation {value}": partial(_oriented_jpeg, value) for value in range(10)},
    "png, exif orientation 6": lambda p: encoded(p, "PNG", exif=_orientation(6)),
    "webp, exif orientation 8": lambda p: encoded(p, "WEBP", exif=_orientation(8)),
}


@pytest.mark.parametrize("make", FILES.values(), ids=FILES.keys())
def test_every_kind_of_file(
    photo: PIL.Image.Image, make: Callable[[PIL.Image.Image], bytes]
) -> None:
    data = make(photo)
    assert_equal_to_references(data)


# The reference warns that the transparency is lost.
@pytest.mark.filterwarnings("ignore:Palette images with Transparency:UserWarning")
def test_a_palette_of_many_transparencies(photo: PIL.Image.Image) -> None:
    data = encoded(photo.convert("P"), "PNG", transparency=bytes(range(256)))
    assert_equal_to_references(data)


def test_one_transparent_colour_lies_on_white(photo: PIL.Image.Image) -> None:
    """The two ways differ: in CLIP's pixels it is white, in ResNet's the stored colour."""
    image = photo.convert("P", palette=PIL.Image.Palette.ADAPTIVE, colors=2)
    data = encoded(image, "GIF", transparency=0)
    stored = tuple(image.getpalette()[:3])  # type: ignore[index]
    assert stored != (255, 255, 255)
    dropped = CLIP.model_copy(update={"transparency": "drop", "resample": "nearest"})
    white = dropped.model_copy(update={"transparency": "white"})
    hidden = (prepare(data, dropped) == stored).all(axis=-1)
    assert 0.1 < hidden.mean() < 0.9
    assert (prepare(data, white)[hidden] == 255).all()
    assert np.array_equal(prepare(data, white)[~hidden], prepare(data, dropped)[~hidden])


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_sixteen_bit_gray(photo: PIL.Image.Image, form: str, order: str) -> None:
    """`load_image` clips 16 bits at 255; the reference gets the image scaled to 8 bits."""
    rng = np.random.default_rng(0)
    gray = np.asarray(photo.convert("L"), dtype=np.uint16)
    deep = (gray * 257 // 2 + rng.integers(0, 256, gray.shape, dtype=np.uint16)).astype(order)
    data = encoded(PIL.Image.fromarray(deep), form)
    assert PIL.Image.open(BytesIO(data)).mode.startswith("I;16")
    scaled = PIL.Image.fromarray((deep >> 8).astype(np.uint8)).convert("RGB")
    assert_equal_to_references(data, scaled)


def test_the_fixture_of_openai_clip() -> None:
    photo, expected = clip_fixture()
    mean = np.array([0.48145466, 0.4578275, 0.40821073])
    std = np.array([0.26862954, 0.26130258, 0.27577711])
    pixels = (prepare(photo.read_bytes(), CLIP) / 255 - mean) / std
    reference = np.load(expected)
    assert reference.shape == (1, 3, 224, 224)
    np.testing.assert_allclose(np.moveaxis(pixels, -1, 0), reference[0], rtol=0, atol=1e-5)
