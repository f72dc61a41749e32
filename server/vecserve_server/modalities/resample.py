"""Resampling of mono audio, a block at a time."""

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import soxr

Mono = npt.NDArray[np.float32]


def resample(blocks: Iterable[Mono], source_hz: int, target_hz: int) -> Iterator[Mono]:
    """Yield the blocks at another rate; at least one sample in all, if there was a block."""
    if source_hz == target_hz:
        yield from blocks
        return
    stream = soxr.ResampleStream(source_hz, target_hz, 1, dtype="float32", quality="HQ")
    made = 0
    block = np.empty(0, dtype=np.float32)
    for block in blocks:
        samples = stream.resample_chunk(block)
        made += len(samples)
        yield samples
    rest = stream.resample_chunk(np.empty(0, dtype=np.float32), last=True)
    # An input shorter than half a sample of the new rate comes to nothing: let
    # it be the one sample it is part of. It is far shorter than a block.
    yield rest if made + len(rest) or not len(block) else block.mean(keepdims=True)
