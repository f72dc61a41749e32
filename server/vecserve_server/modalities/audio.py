"""Audio: channels averaged, resampled, cut into the model's windows."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import soxr

from vecserve_server.errors import InvalidItem
from vecserve_server.modalities.audio_decode import Audio, open_audio
from vecserve_server.modalities.content import (
    Content,
    EncodedAudio,
    Limits,
    PcmAudio,
    wrong_modality,
)
from vecserve_server.modalities.rows import Prepared, Row, Span
from vecserve_server.repository.manifest import AudioInput

# Samples of all channels that are decoded at most: half an hour of stereo at
# 149 kHz. Seconds alone would let 64 channels at 768 kHz through.
_MAX_DECODED_SAMPLES = 1 << 29
# Full scale is 1.0. Far beyond it the spectrogram's powers overflow float32.
_MAX_AMPLITUDE = 1e6

Mono = npt.NDArray[np.float32]


class AudioPipeline:
    """Turns audio into one row a window.

    A row has `waveform`, float32 [window_samples] with zeros after the end, and
    `lengths`, int64 [], the samples of input in it.
    """

    def __init__(self, spec: AudioInput, limits: Limits) -> None:
        self._spec = spec
        self._max_s = limits.max_audio_s

    def is_quick(self, content: Content) -> bool:
        """Never: decoding takes milliseconds."""
        return False

    def prepare(self, content: Content, *, refuse_truncation: bool) -> Prepared:
        """Decode, average the channels, resample and cut; nothing is ever truncated.

        Raises InvalidItem: WRONG_MODALITY, AUDIO_TOO_LONG, AUDIO_OUT_OF_RANGE,
        and what `open_audio` raises.
        """
        if not isinstance(content, EncodedAudio | PcmAudio):
            raise wrong_modality("audio", content)
        audio = open_audio(content)
        self._check_length(audio, audio.stated_frames or 0)
        windows = _Windows(self._spec.window_samples)
        for samples in _resample(self._mono(audio), audio, self._spec.sample_rate_hz):
            windows.add(samples)
        return Prepared(tuple(self._rows(windows)))

    def _check_length(self, audio: Audio, frames: int) -> None:
        seconds = frames / audio.sample_rate_hz
        if seconds > self._max_s:
            raise InvalidItem(
                "AUDIO_TOO_LONG",
                f"the audio lasts {seconds:.0f} s or more, the server takes {self._max_s:g}: "
                "send it in parts",
            )
        if frames * audio.channels > _MAX_DECODED_SAMPLES:
            raise InvalidItem(
                "AUDIO_TOO_LONG",
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
                    "AUDIO_OUT_OF_RANGE",
                    "the audio holds samples that are NaN, infinite or over a million times "
                    "full scale, which is 1.0: write it anew",
                )
            yield mono
        if not frames:
            raise InvalidItem("AUDIO_EMPTY", "the audio holds no samples: send at least one")

    def _rows(self, windows: "_Windows") -> Iterator[Row]:
        spec = self._spec
        start = 0
        for waveform in windows.arrays:
            length = min(spec.window_samples, windows.samples - start)
            yield Row(
                {"waveform": waveform, "lengths": np.array(length, dtype=np.int64)},
                weight=-(-length // spec.samples_per_position),
                span=Span(start / spec.sample_rate_hz, (start + length) / spec.sample_rate_hz),
            )
            start += length


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


def _resample(blocks: Iterator[Mono], audio: Audio, rate_hz: int) -> Iterator[Mono]:
    """Yield the blocks at another rate; at least one sample in all."""
    if audio.sample_rate_hz == rate_hz:
        yield from blocks
        return
    stream = soxr.ResampleStream(audio.sample_rate_hz, rate_hz, 1, dtype="float32", quality="HQ")
    made = 0
    block = np.empty(0, dtype=np.float32)
    for block in blocks:
        samples = stream.resample_chunk(block)
        made += len(samples)
        yield samples
    rest = stream.resample_chunk(np.empty(0, dtype=np.float32), last=True)
    # An input shorter than half a sample of the new rate comes to nothing: let
    # it be the one sample it is part of. It is far shorter than a block.
    yield rest if made + len(rest) else block.mean(keepdims=True)
