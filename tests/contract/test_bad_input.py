"""Bad input gets a status a person can act on, and costs nobody else anything."""

import io

import numpy as np
import pytest
import soundfile

from tests.contract.requests import (
    CLIP,
    MINILM,
    RESNET,
    WHISPER,
    audio,
    embed,
    error,
    image,
    vector,
)
from vecserve.v1 import embedding_pb2 as pb
from vecserve.v1.embedding_pb2_grpc import EmbeddingServiceStub


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "0 bytes"),
        (b"This is a text file that somebody named photo.jpg", "JPEG"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, ""),
        (b"%PDF-1.7 and so on", "JPEG"),
    ],
)
def test_images_that_are_none(stub: EmbeddingServiceStub, data: bytes, says: str) -> None:
    (result,) = embed(stub, RESNET, image("a", data))
    code, _, sentence = error(result)
    assert code == "INVALID_ARGUMENT"
    assert says in sentence


def test_a_truncated_jpeg(stub: EmbeddingServiceStub, images: list[bytes]) -> None:
    whole, cut = embed(stub, CLIP, image("whole", images[0]), image("cut", images[0][:-2000]))
    assert vector(whole).shape == (512,)
    code, reason, _ = error(cut)
    assert (code, reason) == ("INVALID_ARGUMENT", "IMAGE_TRUNCATED")


@pytest.mark.parametrize("data", [b"", b"no audio at all", b"RIFF\x24\0\0\0WAVEfmt "])
def test_audio_that_is_none(stub: EmbeddingServiceStub, data: bytes) -> None:
    (result,) = embed(stub, WHISPER, audio("a", data))
    code, _, sentence = error(result)
    assert code == "INVALID_ARGUMENT"
    assert len(sentence.split()) > 4


def test_a_wav_of_one_sample_is_audio(stub: EmbeddingServiceStub) -> None:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(1), 16_000, format="WAV")
    (result,) = embed(stub, WHISPER, audio("a", file.getvalue()))
    assert vector(result).shape == (512,)
    span = result.embedding.vectors[0].span
    assert 0 < span.end.ToMicroseconds() <= 1_000


@pytest.mark.parametrize(
    ("pcm", "says"),
    [
        (pb.PcmAudio(samples=b"\0\0", sample_rate_hz=16_000), "pcm.format"),
        (pb.PcmAudio(format=pb.SAMPLE_FORMAT_S16LE, sample_rate_hz=16_000), ""),
        (pb.PcmAudio(samples=b"\0", format=pb.SAMPLE_FORMAT_S16LE, sample_rate_hz=16_000), ""),
        (pb.PcmAudio(samples=b"\0\0", format=pb.SAMPLE_FORMAT_S16LE), "0"),
        (
            pb.PcmAudio(
                samples=np.array([np.nan], "<f4").tobytes(),
                format=pb.SAMPLE_FORMAT_F32LE,
                sample_rate_hz=16_000,
            ),
            "finite",
        ),
    ],
)
def test_pcm_that_is_none(stub: EmbeddingServiceStub, pcm: pb.PcmAudio, says: str) -> None:
    (result,) = embed(stub, WHISPER, pb.Item(item_id="a", pcm=pcm))
    code, _, sentence = error(result)
    assert code == "INVALID_ARGUMENT"
    assert says in sentence


def test_a_text_over_the_byte_limit(stub: EmbeddingServiceStub) -> None:
    (result,) = embed(stub, MINILM, pb.Item(item_id="a", text="x" * (1024 * 1024 + 1)))
    code, _, sentence = error(result)
    assert code == "INVALID_ARGUMENT"
    assert "1048576" in sentence.replace(",", "")
