"""Messages between the server and a decode worker.

A task is a pickle: a worker trusts the server. A reply is checked JSON beside shared
memory, for the server must not trust a worker, where a file may have taken over a decoder.
"""

import pickle
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, NonNegativeInt

from vecserve_server.modalities.content import Content
from vecserve_server.modalities.rows import Prepared, Row, Span
from vecserve_server.reasons import Reason
from vecserve_server.repository.manifest import Record

Array = npt.NDArray[np.generic]

# Arrays start at multiples of this many bytes: a cache line.
_ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class Task:
    """One item to prepare. `modality` is pickled; `memory_bytes` is what it may take."""

    modality: bytes
    content: Content
    refuse_truncation: bool
    memory_bytes: int


def _is_numeric(dtype: str) -> str:
    # Of Python objects the memory would hold addresses.
    if np.dtype(dtype).kind not in "biuf":
        raise ValueError(f"an array of {dtype}")
    return dtype


class ArrayRecord(Record):
    """Place of an array in the shared memory."""

    dtype: Annotated[str, AfterValidator(_is_numeric)]
    shape: tuple[NonNegativeInt, ...]
    offset: NonNegativeInt


class RowRecord(Record):
    """A row, its arrays in the shared memory."""

    feeds: dict[str, ArrayRecord]
    positions: int
    weight: int
    span: tuple[float, float] | None


class PreparedRecord(Record):
    """A prepared item whose arrays are in `size` bytes of shared memory."""

    rows: tuple[RowRecord, ...]
    token_count: int
    truncated: bool
    size: int


class Reply(Record):
    """Answer to a task: one of the fields is set.

    `needs_bytes` is the memory that decoding takes, where that is more than the task
    allows; `out_of_memory`: it took more than it said; `failure` is a traceback.
    """

    prepared: PreparedRecord | None = None
    refusal: tuple[Reason, str] | None = None
    needs_bytes: int = 0
    out_of_memory: bool = False
    failure: str = ""


class _Chunks(list[Any]):
    """A file to pickle into: what is large is kept as it is, not copied."""

    write = list.append


def pickled(task: Task) -> list[bytes | memoryview]:
    """Return a task as bytes to be sent one after the other."""
    chunks = _Chunks()
    pickle.Pickler(chunks, pickle.HIGHEST_PROTOCOL).dump(task)
    return chunks


def place(prepared: Prepared) -> tuple[PreparedRecord, list[tuple[int, Array]]]:
    """Return the record of a prepared item, and its arrays with their offsets."""
    placed: list[tuple[int, Array]] = []
    rows = []
    end = 0
    for row in prepared.rows:
        feeds = {}
        for name, feed in row.feeds.items():
            offset = -(-end // _ALIGNMENT) * _ALIGNMENT
            end = offset + feed.nbytes
            placed.append((offset, feed))
            feeds[name] = ArrayRecord(dtype=feed.dtype.str, shape=feed.shape, offset=offset)
        span = (row.span.start_s, row.span.end_s) if row.span else None
        rows.append(RowRecord(feeds=feeds, positions=row.positions, weight=row.weight, span=span))
    record = PreparedRecord(
        rows=tuple(rows),
        token_count=prepared.token_count,
        truncated=prepared.truncated,
        size=end,
    )
    return record, placed


def find(record: PreparedRecord, memory: Any) -> Prepared:
    """Return a prepared item whose arrays lie in `memory`, and keep it.

    Raises TypeError if an array lies outside.
    """
    rows = tuple(
        Row(
            {
                name: np.ndarray(one.shape, one.dtype, memory, one.offset)
                for name, one in row.feeds.items()
            },
            positions=row.positions,
            weight=row.weight,
            span=Span(*row.span) if row.span else None,
        )
        for row in record.rows
    )
    return Prepared(rows, record.token_count, record.truncated)
