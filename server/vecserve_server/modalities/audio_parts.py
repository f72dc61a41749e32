"""Audio files in a row, as `cat` joins them and radio stations send them: where each starts.

libsndfile reads the first and says nothing of the rest.
"""

from collections.abc import Iterator

from vecserve_server.errors import InvalidItem
from vecserve_server.modalities.audio_flac import flac_parts
from vecserve_server.modalities.audio_mpeg import mpeg_parts, starts_like_mpeg
from vecserve_server.modalities.audio_ogg import ogg_parts
from vecserve_server.modalities.audio_riff import is_wav, wav_parts
from vecserve_server.modalities.audio_tags import Tags
from vecserve_server.modalities.signatures import describe
from vecserve_server.reasons import Reason

ACCEPTED = "WAV, FLAC, OGG (Vorbis, Opus) or MP3"

_MAX_PARTS = 1000


def split(data: bytes) -> Iterator[bytes]:
    """Yield each file of one or several in a row, of one container, as libsndfile can read it.

    Raises InvalidItem: AUDIO_UNREADABLE for containers that callers may not reach,
    AUDIO_TRUNCATED, AUDIO_LENGTH_WRONG, AUDIO_TOO_LONG.
    """
    for number, part in enumerate(_parts(data), 1):
        if number > _MAX_PARTS:
            raise InvalidItem(
                Reason.AUDIO_TOO_LONG,
                f"the audio is of more than {_MAX_PARTS} files in a row: send fewer at a time",
            )
        yield part


def _parts(data: bytes) -> Iterator[bytes]:
    start = Tags(data).skip(0)
    body = data[start:]  # bytes are not copied if that is all of them
    if is_wav(body):
        return wav_parts(body)
    if body.startswith(b"fLaC"):
        return flac_parts(body)
    if body.startswith(b"OggS"):
        return ogg_parts(body)
    if starts_like_mpeg(body, 0):
        return mpeg_parts(body)
    # Zeros before something are part of what it starts like.
    start_bytes = body if data.startswith((b"ID3", b"APETAGEX")) else data
    raise InvalidItem(
        Reason.AUDIO_UNREADABLE,
        f"the audio cannot be read, its bytes start like {describe(start_bytes)}: send {ACCEPTED}",
    )
