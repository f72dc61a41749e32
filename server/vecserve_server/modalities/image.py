"""Image modality: decoded, turned upright, to RGB, resized, cropped.

The pixels are those of Hugging Face's Pillow processors (transformers 5.23) for a
file turned upright, as `transformers.image_utils.load_image` does. Processors that
convert to RGB themselves (`do_convert_rgb`: CLIP, BiT, SigLIP) lay transparent
pixels on white; for the others (ViT, ConvNeXt) `load_image` has dropped the
transparency, so that the stored colour stays. 16-bit gray, which both clip to
white, is scaled.
"""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

from vecserve_server.errors import InvalidItem
from vecserve_server.modalities.base import Fields, Modality
from vecserve_server.modalities.content import Content, Limits
from vecserve_server.modalities.image_formats import ACCEPTED, FORMATS
from vecserve_server.modalities.image_structure import (
    MAX_CHUNKS,
    has_more_scans,
    max_scans,
    too_many_chunks,
)
from vecserve_server.modalities.png_chunks import without_large_text
from vecserve_server.modalities.rows import Prepared, Row
from vecserve_server.modalities.signatures import describe
from vecserve_server.modalities.video_frames import EncodedVideo, SampledVideo, max_frames, sample
from vecserve_server.reasons import Reason
from vecserve_server.repository.manifest import ImageInput

# What turns an image of each EXIF orientation upright (EXIF 2.32, tag 0x0112).
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Memory at its highest, by Pillow's name of the format, measured with 16 megapixels: Pillow's
# own images take 4 bytes a pixel, and there are two while one is turned; a progressive JPEG has
# its coefficients beside it (12 for CMYK), a WebP file two canvases and a copy (20).
_PEAK_BYTES_PER_PIXEL = {"JPEG": 12, "MPO": 12, "PNG": 12}
_MOST_BYTES_PER_PIXEL = 20
_STRIP_PIXELS = 1 << 20
_PROBES = 2


@dataclass(frozen=True, slots=True)
class EncodedImage(Content):
    """An image file's bytes."""

    described = "an image"
    data: bytes


class ImageModality(Modality[ImageInput, EncodedImage | SampledVideo]):
    """Turns an image file, or a frame of a video, into a row.

    A row is uint8 RGB [crop_height, crop_width, 3].
    """

    fields: ClassVar[Fields] = {"image": EncodedImage}
    accepts = (EncodedImage, SampledVideo)
    further_inputs: ClassVar[Fields] = {"video": EncodedVideo}
    decodes = True

    def __init__(self, spec: ImageInput, bundle_dir: Path, limits: Limits) -> None:
        """Raises ValueError if the pixel limit is over Pillow's."""
        # Pillow warns of images over MAX_IMAGE_PIXELS and refuses those twice as large.
        hard_limit = 2 * (Image.MAX_IMAGE_PIXELS or limits.max_image_pixels)
        if limits.max_image_pixels > hard_limit:
            raise ValueError(
                f"max_image_pixels is {limits.max_image_pixels}, but Pillow decodes at most "
                f"{hard_limit}: set it to that or less"
            )
        self._spec = spec
        self._shape = (spec.crop_height, spec.crop_width, 3)
        self._limits = limits
        self._max_pixels = limits.max_image_pixels

    @staticmethod
    def from_bytes(data: bytes) -> EncodedImage:
        """Return a file."""
        return EncodedImage(data)

    @classmethod
    def describe(cls, spec: ImageInput, limits: Limits) -> dict[str, int]:
        """Return how many frames of a video may be asked for."""
        return {"max_frames": max_frames()}

    def blank_row(self, positions: int) -> Row:
        """Return black pixels."""
        return self._row(np.zeros(self._shape, dtype=np.uint8))

    def probe_rows(self) -> list[Row]:
        """Return noise."""
        random = np.random.default_rng(0)
        return [
            self._row(random.integers(0, 256, self._shape, dtype=np.uint8)) for _ in range(_PROBES)
        ]

    def decoded_bytes(self, content: EncodedImage | SampledVideo) -> int:
        """Return what decoding takes at its highest, of what the header says.

        Of a video that is not known. Raises InvalidItem: IMAGE_EMPTY, IMAGE_UNREADABLE,
        IMAGE_TRUNCATED, IMAGE_TOO_LARGE.
        """
        if isinstance(content, SampledVideo):
            return super().decoded_bytes(content)
        image = self._decode(content.data, header_only=True)
        per_pixel = _PEAK_BYTES_PER_PIXEL.get(image.format or "", _MOST_BYTES_PER_PIXEL)
        return image.width * image.height * per_pixel

    def prepare(self, content: EncodedImage | SampledVideo, *, refuse_truncation: bool) -> Prepared:
        """Decode, turn upright, convert, resize and crop an image; nothing is ever truncated.

        Raises InvalidItem: IMAGE_EMPTY, IMAGE_UNREADABLE, IMAGE_TRUNCATED, IMAGE_TOO_LARGE,
        IMAGE_TOO_COMPLEX, IMAGE_UNSUPPORTED; for frames of a video what `sample` raises.
        """
        if isinstance(content, SampledVideo):
            return Prepared(sample(content, self._limits, self._frame_row))
        image = _turn_upright(self._decode(content.data))
        image = _to_rgb(image, on_white=self._spec.transparency == "white")
        return Prepared((self._row(self._resize_and_crop(image)),))

    def _frame_row(self, pixels: npt.NDArray[np.uint8]) -> Row:
        return self._row(self._resize_and_crop(Image.fromarray(pixels)))

    def _row(self, pixels: npt.NDArray[np.uint8]) -> Row:
        return Row({self._spec.graph_input: pixels})

    def _decode(self, data: bytes, *, header_only: bool = False) -> Image.Image:
        if not data:
            raise InvalidItem(Reason.IMAGE_EMPTY, "the image has 0 bytes: send a whole image file")
        try:
            image = Image.open(BytesIO(without_large_text(data)), formats=FORMATS)
            self._check_size(*image.size, "is")
            if not header_only:
                _check_parts(data, image)
                image.load()
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise _too_large("the image has far too many pixels", self._max_pixels) from error
        except UnidentifiedImageError as error:
            raise InvalidItem(
                Reason.IMAGE_UNREADABLE,
                f"the image cannot be read, its bytes start like {describe(data)}: "
                f"send a whole {ACCEPTED} file",
            ) from error
        except (InvalidItem, MemoryError):
            raise
        # Pillow's decoders raise nearly any exception on a damaged file.
        except Exception as error:
            if "truncated" in str(error).lower() or isinstance(error, EOFError):
                raise InvalidItem(
                    Reason.IMAGE_TRUNCATED,
                    f"the image ends too early ({error}): send all of the file",
                ) from error
            raise InvalidItem(
                Reason.IMAGE_UNREADABLE,
                f"the image is damaged ({error}): send a whole {ACCEPTED} file",
            ) from error
        return image

    def _check_size(self, width: int, height: int, verb: str) -> None:
        if width * height > self._max_pixels:
            raise _too_large(f"the image {verb} {width} x {height} pixels", self._max_pixels)

    def _resize_and_crop(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        spec = self._spec
        width, height = _resized(image.size, spec)
        # A thin image grows without bound: 1 x 10,000 pixels become 224 x 2,240,000.
        self._check_size(width, height, "is so thin that resizing makes it")
        image = image.resize((width, height), Image.Resampling[spec.resample.upper()])
        # What lies outside the image is black.
        left = _offset(width - spec.crop_width, spec)
        top = _offset(height - spec.crop_height, spec)
        return np.asarray(image.crop((left, top, left + spec.crop_width, top + spec.crop_height)))


def _too_large(what: str, max_pixels: int) -> InvalidItem:
    return InvalidItem(
        Reason.IMAGE_TOO_LARGE,
        f"{what}, the server takes {max_pixels} in all: crop it or scale it down",
    )


def _check_parts(data: bytes, image: Image.Image) -> None:
    most = max_scans(image.width * image.height)
    if image.format in ("JPEG", "MPO") and has_more_scans(data, most):
        raise _too_complex(f"the JPEG file has more than {most} scans")
    if image.format == "PNG" and too_many_chunks(data):
        raise _too_complex(f"the PNG file has more than {MAX_CHUNKS} chunks")


def _too_complex(what: str) -> InvalidItem:
    return InvalidItem(
        Reason.IMAGE_TOO_COMPLEX, f"{what}, which is all that the server takes: write it anew"
    )


def _turn_upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation. An image whose EXIF data is damaged stays as it is."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # Pillow's EXIF reader raises nearly anything on damaged data
        return image
    method = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if method is None else image.transpose(method)


def _to_rgb(image: Image.Image, *, on_white: bool) -> Image.Image:
    """Convert any mode to RGB, transparent pixels laid on white or as they are stored."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16"):
        # convert() clips 16-bit gray at 255, which leaves a white image. The
        # high byte is what Pillow itself keeps of 16-bit colour.
        gray = (np.asarray(image) >> 8).astype(np.uint8)
        return Image.fromarray(gray).convert("RGB")
    if image.mode in ("I", "F"):
        raise InvalidItem(
            Reason.IMAGE_UNSUPPORTED,
            "the image has signed, 32-bit or floating-point samples, whose white is anyone's "
            "guess: convert it to 8 or 16 bits a channel, unsigned",
        )
    if on_white and ("A" in image.getbands() or "transparency" in image.info):
        return _on_white(image)
    # A transparent colour is no part of the RGB image, and makes convert() warn.
    image.info.pop("transparency", None)
    return image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    """Lay an image on white, a strip after the other: whole, it would be there four times."""
    width, height = image.size
    rgb = Image.new("RGB", image.size)
    rows = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height))).convert("RGBA")
        white = Image.new("RGBA", strip.size, "white")
        rgb.paste(Image.alpha_composite(white, strip).convert("RGB"), (0, top))
    return rgb


def _resized(size: tuple[int, int], spec: ImageInput) -> tuple[int, int]:
    """Return (width, height) as asked; of a shortest edge, the longer one is rounded down.

    The rounding is that of transformers' `get_resize_output_image_size` and of
    torchvision's `Resize`.
    """
    if spec.resize_height is not None and spec.resize_width is not None:
        return spec.resize_width, spec.resize_height
    edge = spec.resize_shortest_edge
    assert edge is not None  # the manifest has one of the two
    width, height = size
    if width <= height:
        return edge, int(edge * height / width)
    return int(edge * width / height), edge


def _offset(surplus: int, spec: ImageInput) -> int:
    """Return where a crop starts, `surplus` pixels being cut off or, below 0, added."""
    return surplus // 2 if spec.crop_rounding == "down" else round(surplus / 2)
