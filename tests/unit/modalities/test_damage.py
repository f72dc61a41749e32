"""Damaged files: whatever is wrong with them, InvalidItem says so and nothing else comes out."""

import random
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import soundfile

from vecserve_server.errors import InvalidItem
from vecserve_server.modalities.audio import AudioModality
from vecserve_server.modalities.audio_decode import EncodedAudio
from vecserve_server.modalities.base import Modality
from vecserve_server.modalities.content import Limits
from vecserve_server.modalities.image import EncodedImage, ImageModality
from vecserve_server.repository.manifest import AudioInput, ImageInput

CASES = 150
IMAGES = ImageModality(
    ImageInput(
        resize_shortest_edge=32,
        resample="bicubic",
        crop_height=32,
        crop_width=32,
        transparency="white",
    ),
    Path(),
    Limits(max_image_pixels=200_000),
)
AUDIO = AudioModality(
    AudioInput(sample_rate_hz=16_000, window_samples=16_000, samples_per_position=320),
    Path(),
    Limits(max_audio_s=10),
)


def image(form: str, mode: str, **settings: object) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    file = BytesIO()
    PIL.Image.fromarray(noise).convert(mode).save(file, form, exif=exif, **settings)
    return file.getvalue()


def audio(form: str, subtype: str, channels: int = 2) -> bytes:
    noise = np.random.default_rng(0).normal(0, 0.1, (4000, channels)).astype(np.float32)
    file = BytesIO()
    rate = 48_000 if subtype == "OPUS" else 8_000
    soundfile.write(file, noise, rate, format=form, subtype=subtype)
    return file.getvalue()


FILES: dict[str, EncodedImage | EncodedAudio] = {
    "jpeg": EncodedImage(image("JPEG", "RGB")),
    "progressive": EncodedImage(image("JPEG", "CMYK", progressive=True)),
    "png": EncodedImage(image("PNG", "RGBA")),
    "palette": EncodedImage(image("PNG", "P", transparency=bytes(20))),
    "gif": EncodedImage(image("GIF", "P")),
    "webp": EncodedImage(image("WEBP", "RGB")),
    "avif": EncodedImage(image("AVIF", "RGB")),
    "bmp": EncodedImage(image("BMP", "P")),
    "tiff": EncodedImage(image("TIFF", "RGB")),
    "lzw": EncodedImage(image("TIFF", "L", compression="tiff_lzw")),
    "wav": EncodedAudio(audio("WAV", "PCM_16")),
    "float": EncodedAudio(audio("WAV", "FLOAT")),
    "adpcm": EncodedAudio(audio("WAV", "IMA_ADPCM")),
    "rf64": EncodedAudio(audio("RF64", "PCM_24")),
    "flac": EncodedAudio(audio("FLAC", "PCM_16")),
    "vorbis": EncodedAudio(audio("OGG", "VORBIS")),
    "opus": EncodedAudio(audio("OGG", "OPUS")),
    "mp3": EncodedAudio(audio("MP3", "MPEG_LAYER_III")),
}


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Return the bytes with some overwritten, cut off, or left out."""
    kind = rng.random()
    if kind < 0.15:
        return data[: rng.randrange(len(data))]
    if kind < 0.3:
        start = rng.randrange(len(data))
        return data[:start] + data[start + rng.randrange(64) :]
    out = bytearray(data)
    # Most of what can go wrong lies in the header.
    reach = rng.choice([32, 128, len(data)])
    for _ in range(rng.choice([1, 2, 8])):
        out[rng.randrange(min(reach, len(out)))] = rng.choice([0, 127, 255, rng.randrange(256)])
    return bytes(out)


@pytest.mark.parametrize("name", FILES)
def test_damage_is_an_invalid_item_or_nothing(name: str) -> None:
    content = FILES[name]
    pipeline: Modality[Any, Any] = IMAGES if isinstance(content, EncodedImage) else AUDIO
    assert pipeline.prepare(content, refuse_truncation=False).rows
    rng = random.Random(name)
    refusals = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, as when the server runs
        for _ in range(CASES):
            item = type(content)(damaged(content.data, rng))
            try:
                assert pipeline.prepare(item, refuse_truncation=False).rows
            except InvalidItem as error:
                refusals.append(error)
    assert 0 < len(refusals) < CASES
    assert all(error.reason.isupper() and ": " in error.message for error in refusals)
