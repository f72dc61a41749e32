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
from vecserve_server.modalities.content import Content
from vecserve_server.modalities.signatures import describe
from vecserve_server.reasons import Reason

MIN_SAMPLE_RATE_HZ = 1_000
MAX_SAMPLE_RATE_HZ = 768_000
MAX_CHANNELS = 64

_BLOCK_FRAMES = 1 << 16
_INT16_FULL_SCALE = 32768.0
_ACCEPTED = "WAV, FLAC, OGG (Vorbis, Opus) or MP3"
# libsndfile's names of the containers that callers can reach.
_CONTAINERS = {"WAV", "WAVEX", "RF64", "FLAC", "OGG", "MP3"}
# libsndfile's count for "unknown" (SF_COUNT_MAX).
_UNKNOWN_FRAMES = 2**63 - 1
# Lengths in headers are often a little off; beyond this share it is a loss.
_LENGTH_TOLERANCE = 0.01
# Room for tags after the last frame of an MP3.
_TAG_BYTES = 4096
# RIFF sizes from here on are what programs write that do not know the length:
# ffmpeg 0xFFFFFFFF, sox and arecord just under or over 0x80000000.
_UNKNOWN_RIFF_BYTES = 0x7FFF0000

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

    Raises InvalidItem: AUDIO_EMPTY, AUDIO_UNSUPPORTED, PCM_INVALID,
    AUDIO_UNREADABLE, AUDIO_TRUNCATED; the last two, and AUDIO_LENGTH_WRONG,
    also while the blocks are read.
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
    if not _has_known_start(data):
        raise InvalidItem(
            Reason.AUDIO_UNREADABLE,
            f"the audio cannot be read, its bytes start like {describe(data)}: send {_ACCEPTED}",
        )
    _check_riff_size(data)
    stream = BytesIO(data)
    try:
        file = soundfile.SoundFile(stream)
    except soundfile.SoundFileError as error:
        raise InvalidItem(
            Reason.AUDIO_UNREADABLE,
            f"the audio starts like {describe(data)} but is damaged, or of an encoding that "
            f"libsndfile does not know: send a whole {_ACCEPTED} file",
        ) from error
    if file.format not in _CONTAINERS:
        raise InvalidItem(Reason.AUDIO_UNREADABLE, f"the audio is {file.format}: send {_ACCEPTED}")
    # Of an MP3 the length may be a guess.
    known = file.format != "MP3" and file.frames != _UNKNOWN_FRAMES
    stated = file.frames if known else None
    return Audio(file.samplerate, file.channels, stated, _file_blocks(file, stream, len(data)))


def _file_blocks(file: soundfile.SoundFile, stream: BytesIO, size: int) -> Iterator[Block]:
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
    if file.frames != _UNKNOWN_FRAMES and read < file.frames * (1 - _LENGTH_TOLERANCE):
        raise InvalidItem(
            Reason.AUDIO_TRUNCATED,
            f"the audio ends after {read} of the {file.frames} frames that its header or its bit "
            "rate promises: send all of the file, or write it anew",
        )
    # An MP3 of variable bit rate without a Xing header: libsndfile guesses its
    # length from the first frame and stops there, minutes too early.
    unread = size - stream.tell()
    if file.format == "MP3" and unread > size * _LENGTH_TOLERANCE + _TAG_BYTES:
        raise InvalidItem(
            Reason.AUDIO_LENGTH_WRONG,
            f"the MP3 has no header that gives its length, and {unread} of its {size} bytes "
            "would be left out: write it anew, for instance with `ffmpeg -i IN -c copy OUT.mp3`",
        )


def _has_known_start(data: bytes) -> bool:
    """Whether this is a container we accept; keeps libsndfile's twenty others out of reach."""
    if data[:4] in (b"RIFF", b"RF64"):
        return data[8:12] == b"WAVE"
    # An MPEG audio frame starts with 11 set bits (ISO 11172-3).
    is_mpeg_frame = data[0] == 0xFF and len(data) > 1 and data[1] & 0xE0 == 0xE0
    return data.startswith((b"fLaC", b"OggS", b"ID3")) or is_mpeg_frame


def _check_riff_size(data: bytes) -> None:
    """Refuse a WAV file that lacks its end; libsndfile would take what is there."""
    stated = int.from_bytes(data[4:8], "little") + 8
    if data[:4] != b"RIFF" or stated >= _UNKNOWN_RIFF_BYTES:
        return
    if len(data) < stated * (1 - _LENGTH_TOLERANCE):
        raise InvalidItem(
            Reason.AUDIO_TRUNCATED,
            f"the WAV file has {len(data)} of the {stated} bytes that its header states: "
            "send all of the file",
        )
