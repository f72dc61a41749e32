"""Audio modality: channels averaged, resampled, cut into the model's windows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from vecserve_server.errors import InvalidItem
from vecserve_server.modalities.audio_decode import (
    Audio,
    EncodedAudio,
    PcmAudio,
    SampleFormat,
    open_audio,
)
from vecserve_server.modalities.base import Fields, Modality
from vecserve_server.modalities.content import Limits
from vecserve_server.modalities.resample import Mono, resample
from vecserve_server.modalities.rows import Prepared, Row, Span
from vecserve_server.reasons import Reason
from vecserve_server.repository.manifest import AudioInput

# Samples of all channels that are decoded at most: half an hour of stereo at
# 149 kHz. Seconds alone would let 64 channels at 768 kHz through.
_MAX_DECODED_SAMPLES = 1 << 29
# Full scale is 1.0. Far beyond it the spectrogram's powers overflow float32.
_MAX_AMPLITUDE = 1e6

_PROBES = 2
# By number in vecserve.v1.SampleFormat.
_SAMPLE_FORMATS = {1: SampleFormat.S16LE, 2: SampleFormat.F32LE}


class _PcmMessage(Protocol):
    """The message vecserve.v1.PcmAudio."""

    samples: bytes
    format: int
    sample_rate_hz: int
    channels: int


def _pcm(message: _PcmMessage) -> PcmAudio:
    if message.format not in _SAMPLE_FORMATS:
        raise InvalidItem(
            Reason.UNKNOWN_VALUE,
            f"pcm.format has the value {message.format}; this server knows "
            f"{sorted(_SAMPLE_FORMATS)}",
        )
    return PcmAudio(
        message.samples,
        _SAMPLE_FORMATS[message.format],
        message.sample_rate_hz,
        message.channels or 1,
    )


class AudioModality(Modality[AudioInput, EncodedAudio | PcmAudio]):
    """Turns audio into one row a window.

    A row has `waveform`, float32 [window_samples] with zeros after the end, and
    `lengths`, int64 [], the samples of input in it.
    """

    fields: ClassVar[Fields] = {"audio": EncodedAudio, "pcm": _pcm}
    accepts = (EncodedAudio, PcmAudio)
    windowed = True
    decodes = True

    def __init__(self, spec: AudioInput, bundle_dir: Path, limits: Limits) -> None:
        self._spec = spec
        self._max_s = limits.max_audio_s

    @classmethod
    def describe(cls, spec: AudioInput, limits: Limits) -> dict[str, Any]:
        """Return how long a window and an audio may be."""
        return {"window_seconds": _window_s(spec), "max_seconds": limits.max_audio_s}

    @property
    def max_rows(self) -> int:
        """Windows of the longest audio."""
        return int(self._max_s / _window_s(self._spec)) + 1

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """Windows of a sample or more; loudness as of files."""
        return {
            "waveform": (-_MAX_AMPLITUDE, _MAX_AMPLITUDE),
            "lengths": (1, self._spec.window_samples),
        }

    @staticmethod
    def from_bytes(data: bytes) -> EncodedAudio:
        """Return a file."""
        return EncodedAudio(data)

    def blank_row(self, positions: int) -> Row:
        """Return a window of silence."""
        return self._row(np.zeros(self._spec.window_samples, dtype=np.float32))

    def probe_rows(self) -> list[Row]:
        """Return windows of noise."""
        random = np.random.default_rng(0)
        samples = self._spec.window_samples
        return [
            self._row(random.uniform(-0.1, 0.1, samples).astype(np.float32)) for _ in range(_PROBES)
        ]

    def prepare(self, content: EncodedAudio | PcmAudio, *, refuse_truncation: bool) -> Prepared:
        """Decode, average the channels, resample and cut; nothing is ever truncated.

        Raises InvalidItem: AUDIO_TOO_LONG, AUDIO_OUT_OF_RANGE, and what
        `open_audio` raises.
        """
        audio = open_audio(content)
        self._check_length(audio, audio.stated_frames or 0)
        windows = _Windows(self._spec.window_samples)
        target_hz = self._spec.sample_rate_hz
        for samples in resample(self._mono(audio), audio.sample_rate_hz, target_hz):
            windows.add(samples)
        return Prepared(tuple(self._rows(windows)))

    def _check_length(self, audio: Audio, frames: int) -> None:
        seconds = frames / audio.sample_rate_hz
        if seconds > self._max_s:
            raise InvalidItem(
                Reason.AUDIO_TOO_LONG,
                f"the audio lasts {seconds:.0f} s or more, the server takes {self._max_s:g}: "
                "send it in parts",
            )
        if frames * audio.channels > _MAX_DECODED_SAMPLES:
            raise InvalidItem(
                Reason.AUDIO_TOO_LONG,
                f"the audio has {frames * audio.channels} samples or more over its "
                f"{audio.channels} channels, the server takes {_MAX_DECODED_SAMPLES}: "
                "send it in parts, at a lower rate or with fewer channels",
            )

    def _mono(self, audio: Audio) -> Iterator[Mono]:
        """Yield the mean of the channels, [frames], a block at a time."""
        frames = 0
        for block in audio.blocks:
            frames += len(block)
            self._check_length(audio, frames)
            # inf - inf and the like are no news: the check below catches them.
            with np.errstate(over="ignore", invalid="ignore"):
                # Four times as fast as mean(axis=1), which loops over frames.
                mono = np.einsum("fc->f", block) / np.float32(audio.channels)
            # Written so that NaN is caught, too.
            if not np.abs(mono).max() <= _MAX_AMPLITUDE:
                raise InvalidItem(
                    Reason.AUDIO_OUT_OF_RANGE,
                    "the audio holds samples that are NaN, infinite or over a million times "
                    "full scale, which is 1.0: write it anew",
                )
            yield mono
        if not frames:
            raise InvalidItem(Reason.AUDIO_EMPTY, "the audio holds no samples: send at least one")

    def _rows(self, windows: "_Windows") -> Iterator[Row]:
        spec = self._spec
        start = 0
        for waveform in windows.arrays:
            length = min(spec.window_samples, windows.samples - start)
            span = Span(start / spec.sample_rate_hz, (start + length) / spec.sample_rate_hz)
            yield self._row(waveform, length, span)
            start += length

    def _row(self, waveform: Mono, length: int | None = None, span: Span | None = None) -> Row:
        """Return a window whose first `length` samples are input; all of them without one."""
        length = len(waveform) if length is None else length
        return Row(
            {"waveform": waveform, "lengths": np.array(length, dtype=np.int64)},
            weight=-(-length // self._spec.samples_per_position),
            span=span,
        )


def _window_s(spec: AudioInput) -> float:
    return spec.window_samples / spec.sample_rate_hz


class _Windows:
    """Collects samples in arrays of one size, the last one zero-padded.

    Separate arrays, so that each is freed when its row has run.
    """

    def __init__(self, size: int) -> None:
        self.arrays: list[Mono] = []
        self.samples = 0
        self._size = size

    def add(self, samples: Mono) -> None:
        while len(samples):
            offset = self.samples % self._size
            if offset == 0:
                self.arrays.append(np.zeros(self._size, dtype=np.float32))
            part, samples = np.split(samples, [self._size - offset])
            self.arrays[-1][offset : offset + len(part)] = part
            self.samples += len(part)
