"""Audio files made for tests, and what AudioModality hears in them."""

from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from tests.support.testdata import speech
from vecserve_server.errors import InvalidItem
from vecserve_server.modalities.audio import AudioModality
from vecserve_server.modalities.audio_decode import EncodedAudio, PcmAudio
from vecserve_server.modalities.content import Limits
from vecserve_server.modalities.rows import Prepared
from vecserve_server.repository.manifest import AudioInput

Samples = npt.NDArray[np.float32]

RATE = 16_000
WINDOW = 2 * RATE
PIPELINE = AudioModality(
    AudioInput(sample_rate_hz=RATE, window_samples=WINDOW, samples_per_position=320),
    Path(),
    Limits(max_audio_s=20),
)


def clip() -> Samples:
    """7.1 s of speech."""
    samples, rate = soundfile.read(speech()[0], dtype="float32")
    assert rate == RATE
    return np.asarray(samples, dtype=np.float32)


def encoded(
    samples: Samples, rate: int, form: str, subtype: str | None = None, **settings: object
) -> bytes:
    file = BytesIO()
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    with soundfile.SoundFile(file, "w", rate, channels, subtype, format=form, **settings) as out:
        for start in range(0, len(samples), 4096):  # all at once, Vorbis crashes libsndfile
            out.write(samples[start : start + 4096])
    return file.getvalue()


def prepare(content: EncodedAudio | PcmAudio) -> Prepared:
    return PIPELINE.prepare(content, refuse_truncation=True)


def heard(content: EncodedAudio | PcmAudio) -> Samples:
    """The samples of all windows, without the padding."""
    rows = prepare(content).rows
    parts = [row.feeds["waveform"][: int(row.feeds["lengths"])] for row in rows]
    return np.concatenate(parts).astype(np.float32)


def refusal(content: EncodedAudio | PcmAudio) -> InvalidItem:
    with pytest.raises(InvalidItem) as raised:
        prepare(content)
    return raised.value


def cosine(a: Samples, b: Samples) -> float:
    length = min(len(a), len(b))
    a, b = a[:length], b[:length]
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
