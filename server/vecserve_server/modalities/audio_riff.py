"""RIFF structure of WAV files: files in a row, and lengths that their writers did not know."""

from collections.abc import Iterator

from vecserve_server.errors import InvalidItem
from vecserve_server.modalities.audio_tolerance import LENGTH_TOLERANCE, check_left_over
from vecserve_server.reasons import Reason

# Sizes from here on are what programs write that do not know the length: 2,000,000,000,
# 0x7FFFFFFF (sox, arecord) and 0xFFFFFFFF (ffmpeg), each with or without the header.
# No message holds a file of such a size.
_UNKNOWN_BYTES = 2_000_000_000 - 4096
_HEADER = 8
_FORM = 12
# Chunks that are looked at before the samples and after them.
_MAX_CHUNKS = 1024


def is_wav(data: bytes, at: int = 0) -> bool:
    """Whether a WAV file starts there."""
    return data[at : at + 4] in (b"RIFF", b"RF64") and data[at + 8 : at + 12] == b"WAVE"


def wav_parts(data: bytes) -> Iterator[bytes]:
    """Yield each WAV file of one or several in a row, with a header that states its length.

    Raises InvalidItem: AUDIO_TRUNCATED, AUDIO_LENGTH_WRONG.
    """
    at = 0
    while at < len(data):
        samples = _find_samples(data, at)
        if samples is None:  # libsndfile knows what is wrong with it
            yield data[at:]
            return
        start, size = samples
        riff_end = at + _HEADER + _uint32(data, at + 4)
        if _is_unknown(size, riff_end, start, len(data)):
            end = _next_file(data, start)
            yield _with_sizes(data, at, start, end)
        else:
            # Where RIFF says that nothing is missing, a larger chunk is a slip.
            missing = start + size - len(data)
            if missing > size * LENGTH_TOLERANCE and riff_end != len(data):
                raise InvalidItem(
                    Reason.AUDIO_TRUNCATED,
                    f"the WAV file has {len(data) - at} of the {start + size - at} bytes that "
                    "its header states: send all of the file",
                )
            end = _end_of_chunks(data, start + size + size % 2)
            whole = at == 0 and end >= len(data)
            yield data if whole else data[at:end]
        at = end
        if at < len(data) and not is_wav(data, at):
            check_left_over(len(data) - at, len(data))
            return


def _find_samples(data: bytes, at: int) -> tuple[int, int] | None:
    """Return where the samples start, and their bytes as stated; None without a data chunk."""
    at += _FORM
    long_size = None
    for _ in range(_MAX_CHUNKS):
        kind, size, start = data[at : at + 4], _uint32(data, at + 4), at + _HEADER
        if start > len(data):
            return None
        if kind == b"ds64":  # EBU Tech 3306: RIFF size, then the samples' bytes
            long_size = int.from_bytes(data[start + 8 : start + 16], "little")
        if kind == b"data":
            return start, size if long_size is None or size < 0xFFFFFFFF else long_size
        at = start + size + size % 2
    return None


def _is_unknown(size: int, riff_end: int, start: int, length: int) -> bool:
    if size >= _UNKNOWN_BYTES:
        return True
    # Of no samples the RIFF size says whether they are only not counted.
    return size == 0 and length > start and not start < riff_end <= length


def _next_file(data: bytes, start: int) -> int:
    """Return where another WAV file starts among the samples, or the end."""
    while (found := data.find(b"WAVEfmt ", start)) >= 0:
        if is_wav(data, found - 8) and found - 8 >= start:
            return found - 8
        start = found + 1
    return len(data)


def _with_sizes(data: bytes, at: int, start: int, end: int) -> bytes:
    """Return the file at `at` with the sizes it has; they fit RIFF, so RF64 becomes that."""
    between = data[at + 8 : start - 4].replace(b"ds64", b"JUNK", 1)
    riff = (end - at - _HEADER).to_bytes(4, "little")
    return b"".join((b"RIFF", riff, between, (end - start).to_bytes(4, "little"), data[start:end]))


def _end_of_chunks(data: bytes, at: int) -> int:
    """Return where the chunks after the samples end."""
    for _ in range(_MAX_CHUNKS):
        kind, end = data[at : at + 4], at + _HEADER + _uint32(data, at + 4)
        printable = len(kind) == 4 and kind.isascii() and kind.decode().isprintable()
        if not printable or is_wav(data, at) or end > len(data):
            break
        at = end + end % 2
    return at


def _uint32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")
