"""AudioModality: decoding, averaging, resampling, windows, and what is refused."""

import numpy as np
import pytest
import soxr

from tests.support.sounds import RATE, WINDOW, clip, cosine, encoded, heard, prepare, refusal
from vecserve_server.errors import InvalidItem
from vecserve_server.modalities.audio_decode import EncodedAudio, PcmAudio, SampleFormat
from vecserve_server.modalities.rows import Span


def test_windows_cover_the_input_and_are_zero_after_it() -> None:
    samples = clip()
    rows = prepare(EncodedAudio(encoded(samples, RATE, "FLAC"))).rows
    assert len(rows) == 4
    end_s = len(samples) / RATE
    assert [row.span for row in rows] == [
        Span(0, 2),
        Span(2, 4),
        Span(4, 6),
        Span(6, end_s),
    ]
    last = len(samples) - 3 * WINDOW
    assert [int(row.feeds["lengths"]) for row in rows] == [WINDOW, WINDOW, WINDOW, last]
    assert [row.weight for row in rows] == [100, 100, 100, -(-last // 320)]
    for row in rows:
        assert row.feeds["waveform"].shape == (WINDOW,)
        assert row.feeds["waveform"].dtype == np.float32
        assert row.feeds["lengths"].shape == ()
        assert row.feeds["lengths"].dtype == np.int64
        assert row.positions == 1
    padded = np.concatenate([row.feeds["waveform"] for row in rows])
    assert np.array_equal(padded, np.pad(samples, (0, 4 * WINDOW - len(samples))))


@pytest.mark.parametrize(
    ("samples", "lengths"), [(WINDOW, [WINDOW]), (WINDOW + 1, [WINDOW, 1]), (1, [1])]
)
def test_a_remainder_of_any_length_is_a_window(samples: int, lengths: list[int]) -> None:
    data = np.ones(samples, dtype="<f4").tobytes()
    rows = prepare(PcmAudio(data, SampleFormat.F32LE, RATE, 1)).rows
    assert [int(row.feeds["lengths"]) for row in rows] == lengths
    assert rows[-1].span == Span((samples - lengths[-1]) / RATE, samples / RATE)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_wav_of_every_sample_format(subtype: str) -> None:
    difference = heard(EncodedAudio(encoded(clip(), RATE, "WAV", subtype))) - clip()
    assert np.abs(difference).max() <= (1 / 128 if subtype == "PCM_U8" else 1 / 32768)


@pytest.mark.parametrize(
    ("rate", "form", "subtype", "least_cosine"),
    [
        (44_100, "WAV", "PCM_16", 0.9999),
        (48_000, "FLAC", "PCM_24", 0.9999),
        (96_000, "RF64", "PCM_16", 0.9999),
        (44_100, "OGG", "VORBIS", 0.98),
        (48_000, "OGG", "OPUS", 0.95),
        (44_100, "MP3", "MPEG_LAYER_III", 0.98),
    ],
)
def test_files_of_every_container_and_two_channels(
    rate: int, form: str, subtype: str, least_cosine: float
) -> None:
    mono = soxr.resample(clip(), RATE, rate, "VHQ")
    stereo = np.stack([mono * 1.5, mono * 0.5], axis=1)
    samples = heard(EncodedAudio(encoded(stereo, rate, form, subtype)))
    assert abs(len(samples) - len(clip())) <= 1
    assert cosine(samples, clip()) > least_cosine


def test_eight_kilohertz_stereo_mp3() -> None:
    narrow = soxr.resample(clip(), RATE, 8_000)
    samples = heard(EncodedAudio(encoded(np.stack([narrow] * 2, axis=1), 8_000, "MP3")))
    assert abs(len(samples) - len(clip())) <= 2
    assert cosine(samples, soxr.resample(narrow, 8_000, RATE)) > 0.98


@pytest.mark.parametrize("rate", [1_000, 8_000, 11_025, 44_100, 44_099, 768_000])
def test_blocks_are_resampled_like_the_whole(rate: int) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 200_000).astype("<f4")[: rate * 20]
    samples = heard(PcmAudio(noise.tobytes(), SampleFormat.F32LE, rate, 1))
    expected = soxr.resample(noise, rate, RATE, "HQ")
    assert len(samples) == len(expected)
    np.testing.assert_allclose(samples, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("rate", [1_000, 16_000, 44_100, 768_000])
def test_one_sample_is_audio(rate: int) -> None:
    one = np.array([0.25], dtype=np.float32)
    (row,) = prepare(EncodedAudio(encoded(one, rate, "WAV", "FLOAT"))).rows
    assert int(row.feeds["lengths"]) == max(1, RATE // rate)
    assert row.weight == 1
    assert np.abs(row.feeds["waveform"]).max() > 0.1


def test_pcm_channels_are_averaged() -> None:
    frames = np.array([[8192, -8192, 16384], [32767, 0, 1], [-32768] * 3], dtype="<i2")
    samples = heard(PcmAudio(frames.tobytes(), SampleFormat.S16LE, RATE, 3))
    np.testing.assert_allclose(samples, frames.mean(axis=1) / 32768, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("pcm", "reason"),
    [
        (PcmAudio(b"", SampleFormat.S16LE, RATE, 1), "AUDIO_EMPTY"),
        (PcmAudio(b"abc", SampleFormat.S16LE, RATE, 1), "PCM_INVALID"),
        (PcmAudio(b"abcdef", SampleFormat.S16LE, RATE, 2), "PCM_INVALID"),
        (PcmAudio(b"abcd", SampleFormat.F32LE, 999, 1), "AUDIO_UNSUPPORTED"),
        (PcmAudio(b"abcd", SampleFormat.F32LE, 768_001, 1), "AUDIO_UNSUPPORTED"),
        (PcmAudio(b"abcd", SampleFormat.F32LE, 0, 1), "AUDIO_UNSUPPORTED"),
        (PcmAudio(b"abcd", SampleFormat.F32LE, RATE, 0), "AUDIO_UNSUPPORTED"),
        (PcmAudio(bytes(4 * 65), SampleFormat.F32LE, RATE, 65), "AUDIO_UNSUPPORTED"),
        (PcmAudio(bytes(2 * 20_001), SampleFormat.S16LE, 1_000, 1), "AUDIO_TOO_LONG"),
    ],
)
def test_pcm_that_is_refused(pcm: PcmAudio, reason: str) -> None:
    assert refusal(pcm).reason == reason


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf, 3e38])
def test_samples_out_of_range(poison: float) -> None:
    frames = np.zeros((100, 2), dtype=np.float32)
    frames[7] = poison, -poison if poison == np.inf else poison
    assert refusal(EncodedAudio(encoded(frames, RATE, "WAV", "FLOAT"))).reason == (
        "AUDIO_OUT_OF_RANGE"
    )


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"These are words, not a song.\n", "a text"),
        (b"\x00\x00\x00\x20ftypM4A ....", r"M4A \(AAC\) audio .convert it.*"),
        (b"FORM\x00\x00\x00\x00AIFF", "AIFF audio"),
        (b"\x1a\x45\xdf\xa3....", "a Matroska or WebM file"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "a WebP image"),
        (b"\xff", "nothing known"),
    ],
)
def test_what_is_no_audio_we_take_is_named(data: bytes, what: str) -> None:
    with pytest.raises(InvalidItem, match=rf"like {what}: send WAV, FLAC, OGG .*or MP3") as raised:
        prepare(EncodedAudio(data))
    assert raised.value.reason == "AUDIO_UNREADABLE"


def test_no_bytes_and_no_samples() -> None:
    assert refusal(EncodedAudio(b"")).reason == "AUDIO_EMPTY"
    nothing = encoded(np.empty(0, dtype=np.float32), RATE, "WAV")
    assert refusal(EncodedAudio(nothing)).reason == "AUDIO_EMPTY"


@pytest.mark.parametrize("form", ["WAV", "FLAC", "MP3"])
def test_a_file_that_lacks_its_end(form: str) -> None:
    data = encoded(clip(), RATE, form)
    error = refusal(EncodedAudio(data[: len(data) // 2]))
    assert error.reason == "AUDIO_TRUNCATED"
    assert "send all of the file" in error.message


def test_audio_over_the_limit() -> None:
    second = np.zeros(1_000, dtype=np.float32)
    prepare(EncodedAudio(encoded(np.tile(second, 20), 1_000, "WAV")))
    error = refusal(EncodedAudio(encoded(np.tile(second, 21), 1_000, "WAV")))
    assert error.reason == "AUDIO_TOO_LONG"
    assert error.message == "the audio lasts 21 s or more, the server takes 20: send it in parts"


def test_the_limit_holds_where_the_header_says_nothing() -> None:
    data = bytearray(encoded(np.zeros(21 * RATE, dtype=np.float32), RATE, "FLAC"))
    # STREAMINFO's total samples, 36 bits: 0 is "unknown" (RFC 9639, 8.2).
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    assert refusal(EncodedAudio(bytes(data))).reason == "AUDIO_TOO_LONG"
