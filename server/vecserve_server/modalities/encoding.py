"""Encodings of a vector's numbers: floats of two sizes, integers with a scale, packed bits."""

from enum import Enum

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

_INT8_MAX = 127
_UINT8_ZERO = 128


class Encoding(Enum):
    """How the numbers of a vector are written."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"
    UINT8 = "uint8"
    BINARY = "binary"


def encode(values: Array, encoding: Encoding) -> tuple[bytes, float]:
    """Return the bytes of a vector, float32 [..., dimensions], and its scale; 0 if it has none.

    Integers are `values / scale`, rounded, from -127 to 127, unsigned ones 128
    more: symmetric, so that cosines need neither scale nor offset (of int8).
    Bits are those of sentence-transformers' ubinary: 1 where a number is
    positive, eight to a byte, the first in the highest bit.
    """
    match encoding:
        case Encoding.FLOAT32:
            return values.astype("<f4", copy=False).tobytes(), 0.0
        case Encoding.FLOAT16:
            return values.astype("<f2").tobytes(), 0.0
        case Encoding.BINARY:
            return np.packbits(values > 0, axis=-1).tobytes(), 0.0
    # A vector of zeros has any scale.
    scale = float(np.abs(values).max(initial=0.0)) / _INT8_MAX or 1.0
    numbers = np.rint(values / np.float32(scale))
    if encoding is Encoding.UINT8:
        return (numbers + _UINT8_ZERO).astype(np.uint8).tobytes(), scale
    return numbers.astype(np.int8).tobytes(), scale
