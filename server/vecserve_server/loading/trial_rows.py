"""Trial rows: random rows of unlike scale that a graph computes, found by trying.

Nothing says which lengths, token ids and numbers a graph takes, so a few of each are tried, the
most telling first. Rows are drawn alike on every start.
"""

import itertools
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from vecserve_server.engine.engine import Array, Engine, Job, JobOutputs
from vecserve_server.engine.padding import GraphSpec
from vecserve_server.engine.tensors import BF16, BYTES, TensorSpec
from vecserve_server.engine.watchdog import RunTerminated

ROWS = 3
# Lengths of free axes: graphs ask for one of their own (pixels of an image), or for a least one
# (the first window of a convolution over samples).
_LENGTHS = (8, 32, 64, 128, 224, 256, 384, 512, 1024, 4096, 16_000)
# Numbers in one input of a row, above which a length is not tried.
_MAX_ELEMENTS = 1 << 22
# Integers from, and to but without: token ids, then what every table has, then no zeros.
_INTEGERS = ((0, 1000), (0, 100), (0, 2), (1, 2))
# Even and odd rows differ by this factor.
_UNLIKE = 100
# Factors of the larger rows' normal numbers. What overflows takes the second; what takes no
# negative numbers the third.
_FLOATS = ((100.0, False), (1.0, False), (1.0, True))
# After so many seconds no more is tried.
_MAX_S = 20.0


@dataclass(frozen=True, slots=True)
class Draw:
    """How rows are drawn: `length` of their free axes, size of floats, bounds of integers."""

    length: int
    scale: float
    positive: bool
    integers: Mapping[str, tuple[int, int]]


class TrialRows:
    """Rows for a graph of these inputs, that give these outputs."""

    def __init__(
        self, spec: GraphSpec, inputs: Sequence[TensorSpec], outputs: tuple[str, ...]
    ) -> None:
        self._spec = spec
        self._inputs = inputs
        self._outputs = outputs

    def draw(self, draw: Draw, lengths: Sequence[int]) -> list[Job]:
        """Return ROWS random rows, of these lengths in turn; the mask is full of ones."""
        return [
            self._row(draw, number, length)
            for number, length in zip(range(ROWS), itertools.cycle(lengths), strict=False)
        ]

    def find(self, engine: Engine) -> Draw | None:
        """Return how to draw rows whose outputs tell something, None if there is no way found.

        They tell something if most of them are numbers, and each output differs between rows.
        """
        ends_s = time.monotonic() + _MAX_S

        def tells(draw: Draw) -> bool:
            answers = alone(engine, self.draw(draw, (draw.length,)))
            return answers is not None and _tell(answers)

        for draw in self._candidates():
            if time.monotonic() > ends_s:
                return None
            if tells(draw):
                break
        else:
            return None
        # One input may take more than all do: token ids beside token types.
        for name, bounds in draw.integers.items():
            for wider in _INTEGERS[: _INTEGERS.index(bounds)]:
                wide = replace(draw, integers={**draw.integers, name: wider})
                if time.monotonic() < ends_s and tells(wide):
                    draw = wide
                    break
        return draw

    def _candidates(self) -> Iterator[Draw]:
        shapes = [spec.shape[1:] for spec in self._inputs]
        free = any(not isinstance(axis, int) for shape in shapes for axis in shape)
        names = [spec.name for spec in self._inputs if _is_integer(spec) and not self._masks(spec)]
        for length in _LENGTHS if free else _LENGTHS[:1]:
            if max(_elements(shape, length) for shape in shapes) > _MAX_ELEMENTS:
                return
            for bounds in _INTEGERS if names else _INTEGERS[:1]:
                for scale, positive in _FLOATS:
                    yield Draw(length, scale, positive, dict.fromkeys(names, bounds))

    def _masks(self, spec: TensorSpec) -> bool:
        return spec.name == self._spec.mask

    def _row(self, draw: Draw, number: int, length: int) -> Job:
        random = np.random.default_rng(number)
        large = number % 2 == 1
        feeds: dict[str, Array] = {}
        for spec in self._inputs:
            shape = (1, *(axis if isinstance(axis, int) else length for axis in spec.shape[1:]))
            if self._masks(spec):
                feeds[spec.name] = np.ones(shape, dtype=spec.datatype.numpy)
            elif _is_integer(spec):
                low, high = draw.integers[spec.name]
                high = min(high, int(np.iinfo(spec.datatype.numpy).max) + 1)
                if not large:
                    high = min(high, low + max(2, (high - low) // _UNLIKE))
                feeds[spec.name] = random.integers(low, high, shape).astype(spec.datatype.numpy)
            else:
                feeds[spec.name] = _floats(spec, draw, large, random.standard_normal(shape))
        return Job(feeds, rows=1, positions=length, outputs=self._outputs)


def alone(engine: Engine, rows: Sequence[Job]) -> list[JobOutputs] | None:
    """Return the outputs of each row run by itself, None if one does not run."""
    try:
        return [engine.run_together([row])[0] for row in rows]
    except RunTerminated:
        raise
    # ONNX Runtime's exceptions have no common class of their own.
    except Exception:
        return None


def _tell(answers: Sequence[JobOutputs]) -> bool:
    for name in answers[0]:
        values = [answer[name] for answer in answers]
        if any(
            np.issubdtype(one.dtype, np.floating) and np.isfinite(one).mean() < 0.5
            for one in values
        ):
            return False
        if all(np.array_equal(one, values[0]) for one in values):
            return False
    return True


def _is_integer(spec: TensorSpec) -> bool:
    return spec.datatype is not BF16 and np.issubdtype(spec.datatype.numpy, np.integer)


def _elements(shape: Sequence[object], length: int) -> int:
    return math.prod(axis if isinstance(axis, int) else length for axis in shape)


def _floats(spec: TensorSpec, draw: Draw, large: bool, normal: npt.NDArray[np.float64]) -> Array:
    """Return what is no integer, of normal numbers: floats, or what is made of them."""
    values = np.abs(normal) if draw.positive else normal
    values = values * (draw.scale if large else draw.scale / _UNLIKE)
    if spec.datatype is BYTES:
        return values.astype(str).astype(np.object_)
    if spec.datatype is BF16:
        # The upper half of a float32.
        return (values.astype("<f4").view("<u4") >> 16).astype(BF16.numpy)
    if spec.datatype.numpy is np.bool_:
        return values > 0
    return values.astype(spec.datatype.numpy)
