"""Smaller vectors, made of float32 ones as the server makes them."""

from typing import Literal

import numpy as np
import numpy.typing as npt

Encoding = Literal["float32", "float16", "int8", "binary"]
"""As `dtype` of `Client.embed`. uint8 is left out: less 128, its vectors are int8's."""

Vectors = npt.NDArray[np.float32]

_BITS = {"float32": 32, "float16": 16, "int8": 8, "binary": 1}


def bytes_of(dimensions: int, encoding: Encoding) -> int:
    """Return the size of a vector."""
    return -(-dimensions * _BITS[encoding] // 8)


def smaller(vectors: Vectors, dimensions: int, encoding: Encoding) -> Vectors:
    """Return vectors [items, dimensions] of unit length, as a store would compare them.

    The first `dimensions` numbers are kept, then written in `encoding` and read again.
    Bits become 1 and -1, whose cosine falls as their Hamming distance rises.
    """
    cut = vectors[:, :dimensions]
    match encoding:
        case "float16":
            cut = unit(cut).astype(np.float16).astype(np.float32)
        case "int8":
            largest = np.abs(cut).max(axis=1, keepdims=True)
            cut = np.rint(cut / np.maximum(largest, _TINY) * 127)
        case "binary":
            cut = np.where(cut > 0, np.float32(1), np.float32(-1))
    return unit(cut)


_TINY = np.float32(1e-30)


def unit(vectors: Vectors) -> Vectors:
    """Return vectors scaled to unit length; zeros stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, _TINY), np.float32)
