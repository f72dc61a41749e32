"""Sample inputs for verification: real sentences, photos and speech.

`samples/README.md` says where they come from.
"""

import io
from functools import cache
from importlib.resources import files

import numpy as np
import numpy.typing as npt
import soundfile
from PIL import Image, ImageOps

SPEECH_RATE_HZ = 16_000

_SAMPLES = files("vecserve_export") / "samples"


@cache
def sentences() -> tuple[str, ...]:
    """Return short sentences in several languages and scripts."""
    return tuple((_SAMPLES / "sentences.txt").read_text("utf-8").splitlines())


def long_text() -> str:
    """Return a text longer than any text model takes (over 512 tokens)."""
    return " ".join(sentences() * 6)


def photos(height: int, width: int) -> npt.NDArray[np.uint8]:
    """Return three photos, uint8 RGB [3, height, width, 3]."""
    return np.stack([_photo(f"photo_{number}.jpg", height, width) for number in (1, 2, 3)])


def _photo(name: str, height: int, width: int) -> npt.NDArray[np.uint8]:
    with Image.open(io.BytesIO((_SAMPLES / name).read_bytes())) as image:
        fitted = ImageOps.fit(image.convert("RGB"), (width, height), Image.Resampling.BICUBIC)
        return np.asarray(fitted, dtype=np.uint8)


@cache
def speech() -> tuple[npt.NDArray[np.float32], ...]:
    """Return two clips of speech of about 3 s, float32 mono at 16 kHz."""
    clips = []
    for name in ("speech_1.flac", "speech_2.flac"):
        with io.BytesIO((_SAMPLES / name).read_bytes()) as file:
            clips.append(soundfile.read(file, dtype="float32")[0])
    return tuple(clips)
