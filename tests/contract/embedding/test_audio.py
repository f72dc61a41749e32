"""Rules of audio: files and samples, spans, windows."""

import io

import numpy as np
import pytest
import soundfile

from tests.contract.embedding.requests import WHISPER, array, audio, error, result_of, vector
from vecserve.v1 import embedding_pb2 as pb
from vecserve.v1 import model_pb2
from vecserve.v1.embedding_pb2_grpc import EmbeddingServiceStub


def test_bare_samples_are_embedded_as_their_file_is(
    stub: EmbeddingServiceStub, speech: list[bytes]
) -> None:
    samples, rate = soundfile.read(io.BytesIO(speech[0]), dtype="int16")
    pcm = pb.PcmAudio(
        samples=samples.astype("<i2").tobytes(),
        format=pb.SAMPLE_FORMAT_S16LE,
        sample_rate_hz=rate,
    )
    file = vector(result_of(stub, WHISPER, audio("file", speech[0])))
    bare = vector(result_of(stub, WHISPER, pb.Item(item_id="bare", pcm=pcm)))
    assert np.abs(file - bare).max() <= 1e-3


def test_channels_are_averaged(stub: EmbeddingServiceStub, speech: list[bytes]) -> None:
    samples, rate = soundfile.read(io.BytesIO(speech[0]), dtype="float32")
    both = np.stack([samples * 2, np.zeros_like(samples)], axis=1)
    pcm = pb.PcmAudio(
        samples=both.astype("<f4").tobytes(),
        format=pb.SAMPLE_FORMAT_F32LE,
        sample_rate_hz=rate,
        channels=2,
    )
    mono = vector(result_of(stub, WHISPER, audio("mono", speech[0])))
    stereo = vector(result_of(stub, WHISPER, pb.Item(item_id="stereo", pcm=pcm)))
    assert np.abs(mono - stereo).max() <= 1e-3


def test_a_file_of_one_sample_is_audio_and_its_span_ends_with_it(
    stub: EmbeddingServiceStub,
) -> None:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(1), 16_000, format="WAV")
    result = result_of(stub, WHISPER, audio("a", file.getvalue()))
    assert vector(result).shape == (512,)
    assert 0 < result.embedding.vectors[0].span.end.ToMicroseconds() <= 1_000


def test_each_window_of_a_long_audio_has_its_span(
    stub: EmbeddingServiceStub, long_speech: bytes
) -> None:
    each = result_of(stub, WHISPER, audio("long", long_speech), windows=pb.WINDOWS_EACH)  # 70 s
    spans = [
        (value.span.start.ToMilliseconds(), value.span.end.ToMilliseconds())
        for value in each.embedding.vectors
    ]
    assert spans == [(0, 30_000), (30_000, 60_000), (60_000, 70_000)]


def test_a_long_audio_has_one_vector_the_mean_over_all_its_positions(
    stub: EmbeddingServiceStub, long_speech: bytes
) -> None:
    item = audio("long", long_speech)
    pooled = vector(result_of(stub, WHISPER, item))
    each = result_of(stub, WHISPER, item, windows=pb.WINDOWS_EACH)
    windows = [array(value) for value in each.embedding.vectors]
    mean = np.average(windows, axis=0, weights=[1500, 1500, 500])
    assert np.allclose(pooled, mean, atol=1e-4)


def test_pooled_windows_without_pooling_are_refused(
    stub: EmbeddingServiceStub, speech: list[bytes]
) -> None:
    options = {"windows": pb.WINDOWS_POOLED, "pooling": model_pb2.POOLING_NONE}
    refused = result_of(stub, WHISPER, audio("a", speech[0]), **options)
    assert error(refused)[:2] == ("INVALID_ARGUMENT", "WINDOWS_NOT_POOLED")


@pytest.mark.parametrize("data", [b"", b"no audio at all", b"RIFF\x24\0\0\0WAVEfmt "])
def test_audio_that_is_none_is_refused(stub: EmbeddingServiceStub, data: bytes) -> None:
    assert error(result_of(stub, WHISPER, audio("a", data)))[0] == "INVALID_ARGUMENT"


def refusal_of_pcm(
    stub: EmbeddingServiceStub,
    samples: bytes = b"\0\0",
    format_: pb.SampleFormat = pb.SAMPLE_FORMAT_S16LE,
    sample_rate_hz: int = 16_000,
    channels: int = 1,
) -> str:
    """The code of the error that samples get, of which there must be one."""
    pcm = pb.PcmAudio(
        samples=samples, format=format_, sample_rate_hz=sample_rate_hz, channels=channels
    )
    return error(result_of(stub, WHISPER, pb.Item(item_id="a", pcm=pcm)))[0]


def test_samples_without_a_format_are_refused(stub: EmbeddingServiceStub) -> None:
    code = refusal_of_pcm(stub, format_=pb.SAMPLE_FORMAT_UNSPECIFIED)
    assert code == "INVALID_ARGUMENT"


def test_no_samples_are_refused(stub: EmbeddingServiceStub) -> None:
    assert refusal_of_pcm(stub, samples=b"") == "INVALID_ARGUMENT"


@pytest.mark.parametrize(("samples", "channels"), [(b"\0", 1), (b"\0\0", 2)])
def test_part_of_a_frame_is_refused(
    stub: EmbeddingServiceStub, samples: bytes, channels: int
) -> None:
    assert refusal_of_pcm(stub, samples=samples, channels=channels) == "INVALID_ARGUMENT"


@pytest.mark.parametrize("rate", [0, 999, 768_001])
def test_a_sample_rate_out_of_range_is_refused(stub: EmbeddingServiceStub, rate: int) -> None:
    assert refusal_of_pcm(stub, sample_rate_hz=rate) == "INVALID_ARGUMENT"


def test_more_than_64_channels_are_refused(stub: EmbeddingServiceStub) -> None:
    assert refusal_of_pcm(stub, samples=bytes(2 * 65), channels=65) == "INVALID_ARGUMENT"


@pytest.mark.parametrize("sample", [np.nan, np.inf])
def test_samples_that_are_not_finite_are_refused(stub: EmbeddingServiceStub, sample: float) -> None:
    samples = np.array([sample], "<f4").tobytes()
    code = refusal_of_pcm(stub, samples=samples, format_=pb.SAMPLE_FORMAT_F32LE)
    assert code == "INVALID_ARGUMENT"
