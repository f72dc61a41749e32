"""Rows of a batch that one item adds, and the vectors made of their outputs."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vecserve_server.repository.manifest import Output


@dataclass(frozen=True, slots=True)
class Span:
    """A part of an item, in seconds from its start."""

    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Row:
    """What one item, or one window of it, adds to a batch.

    `feeds` holds one array an input of the graph, without the batch axis.
    `positions` is the row's length in the unit of the batch budget: tokens for
    text, 1 for images and windows. `span` is set for audio and video only.
    `weight` is the row's share when rows are pooled into one vector: the
    positions that hold input.
    """

    feeds: dict[str, npt.NDArray[np.generic]]
    positions: int = 1
    weight: int = 1
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """One item, ready to be queued: at least one row."""

    rows: tuple[Row, ...]
    token_count: int = 0
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class OutputPlan:
    """What to make of the rows' outputs.

    `output` is the graph output that was run. `normalize`: scale each vector
    of the last axis to unit length if the graph did not. `pool_rows`: one
    vector for all rows, their mean by weight, before normalising. Of each
    vector the first `dimensions` numbers are kept, also before normalising.
    `pool_vectors`: one vector for all rows, the mean of their vectors as they
    are by themselves, normalised again.
    """

    output: Output
    normalize: bool
    pool_rows: bool
    dimensions: int
    pool_vectors: bool = False


@dataclass(frozen=True, slots=True)
class FinishedVector:
    """One vector of an item, float32 [dimensions] or [positions, dimensions]."""

    values: npt.NDArray[np.float32]
    span: Span | None
