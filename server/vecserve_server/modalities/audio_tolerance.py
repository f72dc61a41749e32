"""Tolerances of audio files: what may be missing of them, or stay unread, without a word."""

from vecserve_server.errors import InvalidItem
from vecserve_server.reasons import Reason

LENGTH_TOLERANCE = 0.01
"""Lengths in headers are often a little off; beyond this share it is a loss."""

_SLACK_BYTES = 4096
"""Room for padding and for tags that nobody knows."""


def slack_bytes(size: int) -> int:
    """Return how many bytes of a file of that size may be anything."""
    return _SLACK_BYTES + int(size * LENGTH_TOLERANCE)


def check_left_over(left: int, size: int) -> None:
    """Raise InvalidItem, AUDIO_LENGTH_WRONG, if more than slack of a file would stay unread."""
    if left > slack_bytes(size):
        raise InvalidItem(
            Reason.AUDIO_LENGTH_WRONG,
            f"{left} of the audio's {size} bytes are neither sound that its headers state nor "
            "known tags, and would be left out: write it anew, for instance with "
            "`ffmpeg -i IN OUT.flac`",
        )
