"""Audio decoding: files and bare samples, read as blocks of float32 frames.

Blocks keep memory bounded: a compressed file may hold a thousand times its size.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from io import BytesIO

import numpy as np
import numpy.typing as npt
import soundfile

from vecserve_server.errors import InvalidItem
from vecserve_server.modalities.audio_parts import ACCEPTED, split
from vecserve_server.modalities.audio_tolerance import LENGTH_TOLERANCE
from vecserve_server.modalities.content import Content
from vecserve_server.modalities.signatures import describe
from vecserve_server.reasons import Reason

MIN_SAMPLE_RATE_HZ = 1_000
MAX_SAMPLE_RATE_HZ = 768_000
MAX_CHANNELS = 64

_BLOCK_FRAMES = 1 << 16
_INT16_FULL_SCALE = 32768.0
# libsndfile's names of the containers that callers can reach.
_CONTAINERS = {"WAV", "WAVEX", "RF64", "FLAC", "OGG", "MP3"}
# libsndfile's count for "unknown" (SF_COUNT_MAX).
_UNKNOWN_FRAMES = 2**63 - 1

Block = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class EncodedAudio(Content):
    """An audio file's bytes."""

    described = "an audio file"
    data: bytes


class SampleFormat(Enum):
    """How one PCM sample is written, as a numpy dtype."""

    S16LE = "<i2"
    F32LE = "<f4"


@dataclass(frozen=True, slots=True)
class PcmAudio(Content):
    """Bare samples, channels interleaved."""

    described = "PCM audio"
    data: bytes
    format: SampleFormat
    sample_rate_hz: int
    channels: int


@dataclass(frozen=True, slots=True)
class Audio:
    """Audio that is being read.

    `blocks` are float32 [frames, channels], full scale at 1.0; reading them may
    raise InvalidItem. `stated_frames` is the header's word, None if it has none to rely on.
    """

    sample_rate_hz: int
    channels: int
    stated_frames: int | None
    blocks: Iterator[Block]


def open_audio(content: EncodedAudio | PcmAudio) -> Audio:
    """Open audio and check what its header says.

    Raises InvalidItem: AUDIO_EMPTY, AUDIO_UNSUPPORTED, AUDIO_TOO_LONG, PCM_INVALID,
    AUDIO_UNREADABLE, AUDIO_TRUNCATED, AUDIO_LENGTH_WRONG; of files also while
    the blocks are read.
    """
    audio = _open_pcm(content) if isinstance(content, PcmAudio) else _open_file(content.data)
    if not MIN_SAMPLE_RATE_HZ <= audio.sample_rate_hz <= MAX_SAMPLE_RATE_HZ:
        raise InvalidItem(
            Reason.AUDIO_UNSUPPORTED,
            f"the audio has a sample rate of {audio.sample_rate_hz} Hz, the server takes "
            f"{MIN_SAMPLE_RATE_HZ} to {MAX_SAMPLE_RATE_HZ}: resample it",
        )
    if not 1 <= audio.channels <= MAX_CHANNELS:
        raise InvalidItem(
            Reason.AUDIO_UNSUPPORTED,
            f"the audio has {audio.channels} channels, the server takes 1 to {MAX_CHANNELS}: "
            "mix it down",
        )
    if audio.stated_frames == 0:
        raise InvalidItem(Reason.AUDIO_EMPTY, "the audio holds no samples: send at least one")
    return audio


def _open_pcm(pcm: PcmAudio) -> Audio:
    width = np.dtype(pcm.format.value).itemsize * pcm.channels
    if width and len(pcm.data) % width:
        raise InvalidItem(
            Reason.PCM_INVALID,
            f"the samples have {len(pcm.data)} bytes, not a whole number of frames of {width} "
            f"({pcm.channels} channels, {pcm.format.name}): check format and channels",
        )
    frames = len(pcm.data) // width if width else 0
    return Audio(pcm.sample_rate_hz, pcm.channels, frames, _pcm_blocks(pcm))


def _pcm_blocks(pcm: PcmAudio) -> Iterator[Block]:
    frames = np.frombuffer(pcm.data, dtype=pcm.format.value).reshape(-1, pcm.channels)
    for start in range(0, len(frames), _BLOCK_FRAMES):
        block = frames[start : start + _BLOCK_FRAMES].astype(np.float32)
        yield block / _INT16_FULL_SCALE if pcm.format is SampleFormat.S16LE else block


def _open_file(data: bytes) -> Audio:
    if not data:
        raise InvalidItem(Reason.AUDIO_EMPTY, "the audio has 0 bytes: send a whole audio file")
    parts = split(data)
    first = _open_part(next(parts))
    return Audio(first.samplerate, first.channels, _stated(first), _file_blocks(first, parts))


def _open_part(part: bytes) -> soundfile.SoundFile:
    try:
        file = soundfile.SoundFile(BytesIO(part))
    except soundfile.SoundFileError as error:
        raise InvalidItem(
            Reason.AUDIO_UNREADABLE,
            f"the audio starts like {describe(part)} but is damaged, or of an encoding that "
            f"libsndfile does not know: send a whole {ACCEPTED} file",
        ) from error
    if file.format not in _CONTAINERS:
        raise InvalidItem(Reason.AUDIO_UNREADABLE, f"the audio is {file.format}: send {ACCEPTED}")
    return file


def _stated(file: soundfile.SoundFile) -> int | None:
    return int(file.frames) if 0 < file.frames < _UNKNOWN_FRAMES else None


def _file_blocks(file: soundfile.SoundFile, following: Iterator[bytes]) -> Iterator[Block]:
    """Yield the blocks of all parts, all of the first one's rate and channels."""
    yield from _part_blocks(file)
    for part in following:
        other = _open_part(part)
        if (other.samplerate, other.channels) != (file.samplerate, file.channels):
            raise InvalidItem(
                Reason.AUDIO_UNSUPPORTED,
                f"the audio is of several files in a row, of {file.channels} channels at "
                f"{file.samplerate} Hz and {other.channels} at {other.samplerate} Hz: "
                "send each alone",
            )
        yield from _part_blocks(other)


def _part_blocks(file: soundfile.SoundFile) -> Iterator[Block]:
    read = 0
    while True:
        try:
            block: Block = file.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise InvalidItem(
                Reason.AUDIO_UNREADABLE,
                f"the audio is damaged or cut off after {read} frames ({error.error_string}): "
                "send all of the file",
            ) from error
        if not len(block):
            break
        read += len(block)
        yield block
    stated = _stated(file)
    if stated is not None and read < stated * (1 - LENGTH_TOLERANCE):
        raise InvalidItem(
            Reason.AUDIO_TRUNCATED,
            f"the audio ends after {read} of the {stated} frames that its header promises: "
            "send all of the file, or write it anew",
        )
