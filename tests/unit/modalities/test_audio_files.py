"""Audio files as people have them: joined by cat, streamed by encoders, tagged by players."""

import io
import struct
from collections.abc import Callable

import av
import numpy as np
import pytest

from tests.support.sounds import RATE, Samples, clip, cosine, encoded, heard, refusal
from vecserve_server.modalities.audio_decode import EncodedAudio

KINDS = [
    ("WAV", None),
    ("RF64", None),
    ("FLAC", None),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", None),
]
ID3V1 = b"TAG" + bytes(125)
ID3V2 = b"ID3\x03\x00\x00" + bytes([0, 0, 1, 0]) + b"T" * 128
LARGE_ID3V2 = b"ID3\x04\x00\x10" + bytes([0, 3, 0, 0]) + b"C" * (3 << 14) + b"3DI" + bytes(7)
LYRICS3 = b"LYRICSBEGIN" + b"la " * 3000 + b"009011LYRICS200"


def file(samples: Samples, kind: tuple[str, str | None] = ("MP3", None)) -> bytes:
    return encoded(samples, RATE, *kind)


def ape(header: bool, size: int = 40_960) -> bytes:
    """An APEv2 tag with a cover."""
    item = (
        struct.pack("<II", size, 2) + b"Cover Art (Front)\x00" + b"\xff\xfb\x90\x00" * (size // 4)
    )

    def block(flags: int) -> bytes:
        return b"APETAGEX" + struct.pack("<IIII", 2000, len(item) + 32, 1, flags) + bytes(8)

    return block(0xA0000000) + item + block(0x80000000) if header else item + block(0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seconds", [5, 0.2])
def test_files_in_a_row_are_heard_whole(kind: tuple[str, str | None], seconds: float) -> None:
    first = clip()[: 5 * RATE]
    second = clip()[RATE : RATE + int(seconds * RATE)]
    samples = heard(EncodedAudio(file(first, kind) + file(second, kind) + file(first, kind)))
    assert len(samples) == 2 * len(first) + len(second)
    assert cosine(samples[len(first) :], second) > 0.9
    assert cosine(samples[len(first) + len(second) :], first) > 0.95


@pytest.mark.parametrize("kind", KINDS)
def test_files_in_a_row_of_unlike_rates_are_refused(kind: tuple[str, str | None]) -> None:
    other = encoded(clip(), 48_000, *kind)
    error = refusal(EncodedAudio(file(clip(), kind) + other))
    assert error.reason == "AUDIO_UNSUPPORTED"
    assert "16000 Hz and 1 at 48000 Hz: send each alone" in error.message


@pytest.mark.parametrize("kind", KINDS)
def test_files_in_a_row_count_together_for_the_limit(kind: tuple[str, str | None]) -> None:
    assert refusal(EncodedAudio(file(clip(), kind) * 3)).reason == "AUDIO_TOO_LONG"


@pytest.mark.parametrize("kind", KINDS)
def test_what_follows_and_is_no_sound_we_know_is_refused(kind: tuple[str, str | None]) -> None:
    samples = clip()[:RATE]
    assert len(heard(EncodedAudio(file(samples, kind) + b"\x01" * 2000))) == RATE
    rest = bytes(range(1, 256)) * 60
    if kind[0] != "FLAC":  # which says itself where it ends
        assert refusal(EncodedAudio(file(samples, kind) + rest)).reason == "AUDIO_LENGTH_WRONG"


def test_too_many_files_in_a_row() -> None:
    assert refusal(EncodedAudio(file(clip()[:10], ("WAV", None)) * 1001)).reason == "AUDIO_TOO_LONG"


@pytest.mark.parametrize(
    ("riff", "data"),
    [
        (0, 0),
        (36, 0),
        (0xFFFFFFFF, 0),
        (0x7FFFFFFF, 0x7FFFFFFF),
        (0x7FFFFFFF, 0x7FFFFFFF - 36),
        (0x80000024, 0x80000000),
        (2_000_000_000, 2_000_000_000),
        (2_000_000_036, 2_000_000_000),
        (2_000_000_000, 2_000_000_000 - 36),
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0xFFFFFFFF, 0xFFFFFFFF - 36),
        (0, 0xFFFFFFFF),
    ],
)
@pytest.mark.parametrize("form", ["WAV", "WAVEX"])
def test_a_wav_of_unknown_length_is_read_to_its_end(riff: int, data: int, form: str) -> None:
    wav = bytearray(encoded(clip(), RATE, form, "PCM_16"))
    at = wav.find(b"data")
    wav[at + 4 : at + 8] = data.to_bytes(4, "little")
    wav[4:8] = (riff if riff != 36 else at).to_bytes(4, "little")
    assert np.array_equal(heard(EncodedAudio(bytes(wav))), clip())
    assert np.array_equal(heard(EncodedAudio(bytes(wav) * 2)), np.tile(clip(), 2))


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 2**64 - 1])
def test_an_rf64_of_unknown_length_is_read_to_its_end(size: int) -> None:
    wav = bytearray(encoded(clip(), RATE, "RF64"))
    at = wav.find(b"ds64") + 8
    wav[at : at + 24] = size.to_bytes(8, "little") * 3
    assert np.array_equal(heard(EncodedAudio(bytes(wav))), clip())


def test_a_wav_whose_chunks_say_that_it_is_empty() -> None:
    wav = file(clip()[:0], ("WAV", None)) + b"LIST\x04\x00\x00\x00INFO"
    wav = wav[:4] + (len(wav) - 8).to_bytes(4, "little") + wav[8:]
    assert refusal(EncodedAudio(wav)).reason == "AUDIO_EMPTY"


def test_an_rf64_that_lacks_its_end() -> None:
    wav = encoded(clip(), RATE, "RF64")
    assert refusal(EncodedAudio(wav[: len(wav) // 2])).reason == "AUDIO_TRUNCATED"


@pytest.mark.parametrize("count", [0, 50_000])
def test_a_flac_that_counts_too_few_samples_is_read_to_its_end(count: int) -> None:
    flac = bytearray(file(clip(), ("FLAC", None)))
    flac[21] &= 0xF0
    flac[22:26] = count.to_bytes(4)
    assert np.array_equal(heard(EncodedAudio(bytes(flac))), clip())
    assert np.array_equal(heard(EncodedAudio(bytes(flac) + ID3V1)), clip())
    assert np.array_equal(
        heard(EncodedAudio(bytes(flac) + ID3V2 + bytes(flac))), np.tile(clip(), 2)
    )


@pytest.mark.parametrize(
    "dress",
    [
        lambda mp3: mp3 + ID3V1,
        lambda mp3: mp3 + ID3V2,
        lambda mp3: LARGE_ID3V2 + ID3V2 + mp3,
        lambda mp3: mp3 + ape(header=True),
        lambda mp3: mp3 + ape(header=False),
        lambda mp3: ape(header=True) + mp3 + ape(header=False) + LYRICS3 + ID3V1,
        lambda mp3: mp3 + LYRICS3 + b"TAG+" + bytes(223) + ID3V1,
        lambda mp3: bytes(5000) + mp3,
        lambda mp3: ID3V2 + bytes(50_000) + mp3 + bytes(50_000),
    ],
)
def test_tags_and_zeros_around_an_mp3(dress: Callable[[bytes], bytes]) -> None:
    mp3 = file(clip())
    plain = heard(EncodedAudio(mp3))
    assert np.array_equal(heard(EncodedAudio(dress(mp3))), plain)
    assert np.array_equal(heard(EncodedAudio(dress(mp3) + dress(mp3))), np.tile(plain, 2))


def vbr_without_header() -> tuple[Samples, bytes]:
    noise = np.random.default_rng(0).normal(0, 0.2, 9 * RATE).astype(np.float32)
    noise *= np.linspace(1, 0, len(noise), dtype=np.float32)
    mp3 = encoded(noise, RATE, "MP3", bitrate_mode="VARIABLE")
    return noise, mp3[
        mp3.find(mp3[:2], 4) :
    ]  # what goes is the Xing header, which counts the frames


def test_a_vbr_mp3_without_a_header_is_read_to_its_end() -> None:
    noise, mp3 = vbr_without_header()
    samples = heard(EncodedAudio(mp3))
    # Without a header the encoder's delay and padding stay: less than three frames of 576.
    assert 0 <= len(samples) - len(noise) < 3 * 576
    delay = int(np.argmax(np.correlate(samples[:20_000], noise[4000:16_000]))) - 4000
    assert cosine(samples[delay + 4000 :], noise[4000:]) > 0.8
    # One with a header, and one without: counted as one by the first one's.
    assert len(heard(EncodedAudio(file(clip()) + mp3))) > len(clip()) + len(noise) - 1152
    assert len(heard(EncodedAudio(mp3 * 2))) > 2 * len(noise)


def test_an_mp3_that_lacks_frames_its_header_counts() -> None:
    mp3 = file(clip())
    second_half = mp3.find(mp3[:2], len(mp3) // 2)
    error = refusal(EncodedAudio(mp3[:second_half] + mp3))
    assert error.reason == "AUDIO_TRUNCATED"
    assert "send all of the file" in error.message


@pytest.mark.parametrize("tag", [b"", ID3V2])
def test_aac_named_mp3_is_named(tag: bytes) -> None:
    error = refusal(EncodedAudio(tag + b"\xff\xf1\x50\x80\x02\x1f\xfc" + bytes(100)))
    assert error.reason == "AUDIO_UNREADABLE"
    assert "like AAC audio in ADTS (convert it, for instance with `ffmpeg -i IN OUT.flac`)" in (
        error.message
    )


class Pipe(io.BytesIO):
    """A file that its writer cannot go back in."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_: int) -> int:
        raise OSError("a pipe")


def piped(form: str, codec: str, rate: int) -> bytes:
    """What FFmpeg writes to a pipe, of the clip."""
    pipe = Pipe()
    with av.open(pipe, "w", format=form) as container:
        stream = container.add_stream(codec, rate=rate)
        assert isinstance(stream, av.AudioStream)
        stream.layout = "mono"
        pcm = (clip() * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(pcm[np.newaxis], format="s16", layout="mono")
        frame.sample_rate = RATE
        resampler = av.AudioResampler(stream.format, "mono", rate, stream.frame_size or 1152)
        for part in [*resampler.resample(frame), *resampler.resample(None), None]:
            container.mux(stream.encode(part))
    return pipe.getvalue()


@pytest.mark.parametrize(
    ("form", "codec", "rate"),
    [
        ("wav", "pcm_s16le", RATE),
        ("wav", "adpcm_ima_wav", RATE),
        ("flac", "flac", RATE),
        ("ogg", "libopus", 48_000),
        ("mp3", "libmp3lame", RATE),
        ("mp2", "mp2", 48_000),
    ],
)
def test_what_ffmpeg_writes_to_a_pipe_is_heard_whole(form: str, codec: str, rate: int) -> None:
    data = piped(form, codec, rate)
    # What pads the start and end is not said of a pipe's MP3 and MP2, and part of the sound.
    once = heard(EncodedAudio(data))
    assert 0 <= len(once) - len(clip()) < 4 * 1152
    twice = heard(EncodedAudio(data * 2))
    assert abs(len(twice) - 2 * len(once)) < 1152
    if form in ("wav", "flac"):
        assert cosine(once, clip()) > 0.9
        assert cosine(twice[len(once) :], clip()) > 0.9
