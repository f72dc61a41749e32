"""Items, and their encoding as messages."""

from __future__ import annotations

import io
import mimetypes
from collections.abc import Callable
from dataclasses import dataclass
from operator import index
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt

from vecserve.models import ModelInfo
from vecserve.v1 import embedding_pb2

MAX_MESSAGE_BYTES = 64 * 2**20
"""Largest message either side takes. One whisper-base sequence is 3.1 MB; gRPC's
own limit of 4 MiB would leave no room for two."""

_ENVELOPE_BYTES = 4096
"""Room in a message for what is around an item's bytes: ids, options, lengths."""

# The media that a server reads. Python's `mimetypes` knows some of these only on
# machines that happen to have a mime.types file, so they are spelled out.
_IMAGE_SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".pjpeg", ".pjp", ".png", ".apng"}
_IMAGE_SUFFIXES |= {".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff"}
_IMAGE_SUFFIXES |= {".avif", ".heic", ".heif", ".hif"}  # not by every server
_AUDIO_SUFFIXES = {".wav", ".wave", ".bwf", ".rf64", ".flac", ".ogg", ".oga", ".opus"}
_AUDIO_SUFFIXES |= {".mp3", ".mpga", ".mp2"}
_VIDEO_SUFFIXES = {".mp4", ".m4v", ".f4v", ".mov", ".qt", ".3gp", ".3g2", ".webm", ".mkv"}

_UTF16_PROBE_BYTES = 256
_UTF16_ZEROS = 0.8
"""Share of the high bytes that are zero in text of mostly Latin letters."""

_PNG_MODES = {"1", "L", "LA", "I;16", "P", "RGB", "RGBA"}
"""Pillow modes that a PNG holds without loss; others are converted to RGB."""


@dataclass(frozen=True, slots=True)
class Image:
    """An encoded image file: JPEG, PNG, WebP, GIF (first frame), BMP, TIFF or AVIF.

    `data` is its bytes, or the path of the file.
    """

    data: bytes | Path


@dataclass(frozen=True, slots=True)
class Audio:
    """An encoded audio file, or several in a row: WAV, FLAC, OGG or MP3, of any rate and channels.

    `data` is its bytes, or the path of the file.
    """

    data: bytes | Path


@dataclass(frozen=True, slots=True)
class Video:
    """A video file: MP4, MOV, WebM or MKV, with or without sound.

    `data` is its bytes, or the path of the file.
    """

    data: bytes | Path


@dataclass(frozen=True, slots=True, eq=False)
class Pcm:
    """A waveform.

    `samples` is [samples] or [samples, channels]: float32 or float64 with full
    scale at -1.0 and 1.0, or int16. `sample_rate_hz` is 1,000 to 768,000.
    """

    samples: npt.ArrayLike
    sample_rate_hz: SupportsIndex


@dataclass(frozen=True, slots=True)
class Item:
    """A thing to embed, with a name or a model of its own.

    `content` is what `embed` takes: a str, a Path, bytes, an Image, an Audio, a
    Pcm, a Video, an (array, rate) tuple or a PIL image. `id` names it in results and
    errors; it need not be unique. `model` and `version` stand in for those of
    the call, so one `embed_stream` can carry several models.
    """

    content: object
    id: str | None = None
    model: str | None = None
    version: str | None = None


class UnusableItem(Exception):
    """One item cannot be sent; the others can. Carries an ItemFailure's fields."""

    def __init__(self, code: str, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message


def modality_of_suffix(path: Path) -> str | None:
    """Return text, image, audio or video as the file's name says; None if it says nothing."""
    suffix = path.suffix.lower()
    if suffix in _IMAGE_SUFFIXES:
        return "image"
    if suffix in _AUDIO_SUFFIXES:
        return "audio"
    if suffix in _VIDEO_SUFFIXES:
        return "video"
    kind = mimetypes.guess_type(path.name)[0] or ""
    return "text" if kind.startswith("text/") else None


def check_many(items: object) -> None:
    """Raise TypeError if `items` is one item where many belong."""
    if isinstance(items, str | bytes | Path | Item | Image | Audio | Video | Pcm) or not (
        hasattr(items, "__iter__") or hasattr(items, "__aiter__")
    ):
        raise TypeError(f"items must be several: put the one {type(items).__name__} in a list")


def named(model: Any, items: Any) -> tuple[str | None, Any]:
    """Return the model, if one is named, and the items of a call (model, items) or (items).

    Raises TypeError if they are not that.
    """
    if items is None:
        model, items = None, model
    if not isinstance(model, str | None):
        raise TypeError(f"a model is named by a str, not a {type(model).__name__}")
    check_many(items)
    return model, items


def needs_model(content: object) -> bool:
    """Whether only the model can say what these bytes are."""
    if isinstance(content, Path):
        return modality_of_suffix(content) is None
    return isinstance(content, bytes | bytearray | memoryview)


def encode(content: object, model: ModelInfo | None) -> embedding_pb2.Item:
    """Turn content into a message without id; reads the file of a Path.

    `model` is needed where `needs_model` says so.

    Raises UnusableItem if a file cannot be read, or the content is too large or
    no Unicode; TypeError or ValueError for content no model takes, or bytes of
    which the model cannot say what they are.
    """
    message = _encode(content, model)
    size = message.ByteSize()
    if size > MAX_MESSAGE_BYTES - _ENVELOPE_BYTES:
        raise UnusableItem(
            "INVALID_ARGUMENT",
            "ITEM_TOO_LARGE",
            f"the item has {size:,} bytes, a message holds {MAX_MESSAGE_BYTES:,}: "
            "send it smaller or in parts",
        )
    return message


def _encode(content: object, model: ModelInfo | None) -> embedding_pb2.Item:
    match content:
        case str():
            return _text(content)
        case Image(data):
            return embedding_pb2.Item(image=_bytes(data))
        case Audio(data):
            return embedding_pb2.Item(audio=_bytes(data))
        case Video(data):
            return embedding_pb2.Item(video=_bytes(data))
        case Pcm():
            return embedding_pb2.Item(pcm=_pcm(content))
        case tuple():
            return embedding_pb2.Item(pcm=_pcm(_waveform(content)))
        case Path():
            return _file(content, model)
        case bytes() | bytearray() | memoryview():
            return _BYTES_OF[_media_of(model, content)](bytes(content))
    if callable(getattr(content, "save", None)) and hasattr(content, "mode"):
        return embedding_pb2.Item(image=_png(content))
    raise TypeError(
        f"cannot embed a {type(content).__name__}: give a str, a pathlib.Path, bytes, "
        "an Image, an Audio, a Video, a Pcm(samples, rate) or a PIL image"
    )


_BYTES_OF: dict[str, Callable[[bytes], embedding_pb2.Item]] = {
    "image": lambda data: embedding_pb2.Item(image=data),
    "audio": lambda data: embedding_pb2.Item(audio=data),
    "video": lambda data: embedding_pb2.Item(video=data),
}


def _media_of(model: ModelInfo | None, content: object) -> str:
    """Return the one kind of media the model takes: image, audio or video."""
    assert model is not None
    media = [name for name in _BYTES_OF if model.takes(name)]
    if len(media) == 1:
        return media[0]
    name = content if isinstance(content, Path) else "bytes"
    if media:
        wrappers = " or ".join(kind.capitalize() for kind in media)
        raise TypeError(f"{name}: {model.name} takes {' and '.join(media)}: wrap as {wrappers}")
    raise TypeError(f"{name}: {model.name} takes no images, audio or video: give its text as a str")


def decode_text(data: bytes) -> str:
    """Return the text of a file, without its byte order mark. Raises UnusableItem."""
    try:
        if not looks_like_utf16(data):
            return data.decode("utf-8-sig")
        why = "UTF-16 text: convert it, for instance with `iconv -f UTF-16 -t UTF-8`"
    except UnicodeDecodeError as error:
        why = f"not UTF-8 text: {error}"
    raise UnusableItem("INVALID_ARGUMENT", "TEXT_NOT_UNICODE", why)


def looks_like_utf16(data: bytes) -> bool:
    """Whether text has UTF-16's byte order mark, or a zero in most of every second byte."""
    start = data[:_UTF16_PROBE_BYTES]
    zeros = max(start[::2].count(0), start[1::2].count(0))
    return start[:2] in (b"\xff\xfe", b"\xfe\xff") or 2 * zeros > _UTF16_ZEROS * len(start) > 0


def _text(text: str) -> embedding_pb2.Item:
    try:
        return embedding_pb2.Item(text=text)
    except UnicodeEncodeError as error:
        raise UnusableItem(
            "INVALID_ARGUMENT", "TEXT_NOT_UNICODE", f"the text is not valid Unicode: {error}"
        ) from error


def _file(path: Path, model: ModelInfo | None) -> embedding_pb2.Item:
    kind = modality_of_suffix(path)
    if kind is None:
        assert model is not None
        try:
            only_text = [own.name for own in model.modalities] == ["text"]
            kind = "text" if only_text else _media_of(model, path)
        except TypeError as error:
            raise UnusableItem("INVALID_ARGUMENT", "UNKNOWN_FILE_TYPE", str(error)) from error
    data = _bytes(path)
    if kind != "text":
        return _BYTES_OF[kind](data)
    try:
        return _text(decode_text(data))
    except UnusableItem as error:
        raise UnusableItem(error.code, error.reason, f"{path} is {error.message}") from error


def _bytes(data: bytes | Path) -> bytes:
    if not isinstance(data, Path):
        return bytes(data)
    try:
        return data.read_bytes()
    except OSError as error:
        raise UnusableItem(
            "NOT_FOUND" if isinstance(error, FileNotFoundError) else "INVALID_ARGUMENT",
            "FILE_UNREADABLE",
            f"cannot read {data}: {error.strerror}",
        ) from error


def _waveform(pair: tuple[Any, ...]) -> Pcm:
    if len(pair) != 2 or not hasattr(pair[1], "__index__") or np.ndim(pair[1]):
        raise TypeError("a tuple is a waveform and its rate in Hz: (samples, 16_000)")
    return Pcm(pair[0], pair[1])


def _pcm(pcm: Pcm) -> embedding_pb2.PcmAudio:
    samples = np.asarray(pcm.samples)
    if samples.ndim not in (1, 2):
        raise ValueError(f"a waveform is [samples] or [samples, channels], not {samples.shape}")
    if samples.dtype == np.int16:
        wire, sample_format = "<i2", embedding_pb2.SAMPLE_FORMAT_S16LE
    elif samples.dtype.kind == "f":
        wire, sample_format = "<f4", embedding_pb2.SAMPLE_FORMAT_F32LE
    else:
        raise TypeError(f"a waveform is float32, float64 or int16, not {samples.dtype}: scale it")
    return embedding_pb2.PcmAudio(
        samples=samples.astype(wire).tobytes(),
        format=sample_format,
        sample_rate_hz=index(pcm.sample_rate_hz),
        channels=samples.shape[1] if samples.ndim == 2 else 1,
    )


def _png(image: Any) -> bytes:
    """Encode a PIL image without loss.

    Its EXIF data goes along, so that a photo has the orientation here that it
    has when its file is sent.
    """
    exif = image.getexif()
    if image.mode not in _PNG_MODES:
        image = image.convert("RGB")
    file = io.BytesIO()
    image.save(file, format="PNG", exif=exif, compress_level=1)
    return file.getvalue()
