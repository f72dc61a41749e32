"""Result of an item, the error that holds results, and arrays made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt

from vecserve._failures import ItemFailure, VecserveError, reason_of
from vecserve._options import OutputType
from vecserve.models import ModelInfo
from vecserve.v1 import embedding_pb2

SHOWN_FAILURES = 5
"""Failures that the text of an EmbedError spells out; all are in `.failures`."""

VectorArray = npt.NDArray[Any]
"""Numbers as `dtype` asks; uint8 for "binary", eight bits to a byte."""

_DTYPES: dict[int, np.dtype[Any]] = {
    embedding_pb2.DATA_TYPE_FLOAT32: np.dtype("<f4"),
    embedding_pb2.DATA_TYPE_FLOAT16: np.dtype("<f2"),
    embedding_pb2.DATA_TYPE_INT8: np.dtype("i1"),
    embedding_pb2.DATA_TYPE_UINT8: np.dtype("u1"),
    embedding_pb2.DATA_TYPE_BINARY: np.dtype("u1"),
}


@dataclass(frozen=True, slots=True)
class Span:
    """A part of an audio or video, in seconds from its start."""

    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True, eq=False)
class Vector:
    """The numbers for one item, or for one window of a long audio or video.

    `values` is [dimensions], or [positions, dimensions] with pooling "none".
    `span` is the part it stands for; audio and video only. `scale` is what int8 numbers
    are multiplied by, and uint8 ones less 128; 1 for others.
    """

    values: VectorArray
    span: Span | None
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Timings:
    """Where an item's time went inside the server, in milliseconds.

    A part that was not reached is 0.
    """

    prepare_ms: float = 0.0
    """Decoding, resampling, resizing, tokenizing, and the wait for a worker."""
    queue_ms: float = 0.0
    """From prepared to the start of its batch."""
    compute_ms: float = 0.0
    """The batch's run."""


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """The answer to one item: vectors, or an error."""

    index: int
    """The item's place in the input, from 0."""
    item: Any
    """What the caller gave: the same object."""
    id: str
    """The item's name: its own `id`, a file's path, or else its index."""
    model: str
    """The model that was asked; empty if neither the item nor the call names one."""
    version: str = ""
    """The version of it that answered; empty if none did."""
    vectors: tuple[Vector, ...] = ()
    """One; several, in order of time, for an audio or video split in windows; none on error."""
    error: ItemFailure | None = None
    """Why there are no vectors; None if there are."""
    token_count: int = 0
    """Tokens the model read, special ones included; 0 for images, audio and video."""
    truncated: bool = False
    """Whether the item was too long and its end was left out."""
    batch_size: int = 0
    """Rows that shared its batch, of all callers; 0 if it was not computed."""
    timings: Timings = Timings()
    """Where its time went."""

    @property
    def vector(self) -> VectorArray:
        """The item's only vector, as `Vector.values`.

        Raises EmbedError if the item failed, and ValueError if it has several
        vectors: read `vectors` then.
        """
        if self.error is not None:
            raise EmbedError([self])
        if len(self.vectors) != 1:
            raise ValueError(f"{self.id} has {len(self.vectors)} vectors: read .vectors")
        return self.vectors[0].values


class EmbedError(VecserveError):
    """At least one item of `embed` failed.

    `failures` lists every failed item. `results` holds one Result an item, in
    the order given, the failed ones included: nothing that was computed is lost.
    """

    def __init__(self, results: Sequence[Result]) -> None:
        super().__init__(results)
        self.results = list(results)
        self.failures = [result.error for result in results if result.error is not None]

    def __str__(self) -> str:
        lines = [f"{len(self.failures)} of {len(self.results)} items failed:"]
        lines += [f"  {failure}" for failure in self.failures[:SHOWN_FAILURES]]
        if len(self.failures) > SHOWN_FAILURES:
            lines.append(f"  and {len(self.failures) - SHOWN_FAILURES} more, see .failures")
        return "\n".join(lines)


def outcome_of(answers: Sequence[embedding_pb2.ItemResult], index: int, id: str) -> dict[str, Any]:
    """Return the fields of a Result that a server's answers to one item fill.

    More than one answer means the item's vectors came in parts.
    """
    last = answers[-1]
    timings = last.timings
    fields: dict[str, Any] = {
        "version": last.version,
        "batch_size": timings.batch_size,
        "timings": Timings(_ms(timings.prepare), _ms(timings.queue), _ms(timings.compute)),
    }
    if last.WhichOneof("outcome") != "embedding":
        return fields | {"error": _failure(last, index, id)}
    return fields | {
        "vectors": tuple(_vector(v) for answer in answers for v in answer.embedding.vectors),
        "token_count": last.embedding.token_count,
        "truncated": last.embedding.truncated,
    }


def _failure(answer: embedding_pb2.ItemResult, index: int, id: str) -> ItemFailure:
    status = answer.error
    names = {code.value[0]: code.name for code in grpc.StatusCode}
    return ItemFailure(
        index=index,
        id=id,
        code=names.get(status.code, "UNKNOWN"),
        reason=reason_of(status.details),
        message=status.message,
    )


def _vector(vector: embedding_pb2.Vector) -> Vector:
    # A copy, so that the caller may write into it.
    shape = list(vector.shape)
    if vector.dtype == embedding_pb2.DATA_TYPE_BINARY:
        shape[-1] //= 8
    values = np.frombuffer(vector.data, _DTYPES[vector.dtype]).reshape(shape).copy()
    span = None
    if vector.HasField("span"):
        span = Span(_seconds(vector.span.start), _seconds(vector.span.end))
    return Vector(values, span, vector.scale or 1.0)


def _seconds(duration: Any) -> float:
    span: timedelta = duration.ToTimedelta()
    return span.total_seconds()


def _ms(duration: Any) -> float:
    return 1e3 * _seconds(duration)


def rows_of(
    results: Sequence[Result], model: ModelInfo, dtype: OutputType, dimensions: int | None
) -> VectorArray:
    """Stack results, one vector each, to [items, dimensions].

    Raises EmbedError if an item failed; ValueError if one has several vectors,
    a vector a position, or another model's.
    """
    _check(results, model)
    rows = [result.vector for result in results]
    if any(row.ndim != 1 for row in rows):
        raise _unpooled(model)
    if rows:
        return np.stack(rows)
    width = dimensions or model.dimensions
    return np.empty((0, width // 8), "u1") if dtype == "binary" else np.empty((0, width), dtype)


def sequences_of(results: Sequence[Result], model: ModelInfo) -> list[VectorArray]:
    """Return each result's positions, [positions, dimensions], windows joined in time.

    Raises EmbedError if an item failed; ValueError if one has another model's vectors.
    """
    _check(results, model)
    return [np.concatenate([vector.values for vector in result.vectors]) for result in results]


def windows_of(results: Sequence[Result], model: ModelInfo) -> list[VectorArray]:
    """Return each result's vectors, [windows, dimensions], in order of time.

    Raises EmbedError if an item failed; ValueError if one has another model's
    vectors, or a vector a position.
    """
    _check(results, model)
    if any(vector.values.ndim != 1 for result in results for vector in result.vectors):
        raise _unpooled(model)
    return [np.stack([vector.values for vector in result.vectors]) for result in results]


def _check(results: Sequence[Result], model: ModelInfo) -> None:
    if any(result.error is not None for result in results):
        raise EmbedError(results)
    if any(result.model != model.name for result in results):
        raise ValueError("`embed` gives rows of one model: use `embed_stream` to mix models")


def _unpooled(model: ModelInfo) -> ValueError:
    poolings = {output.pooling for own in model.modalities for output in own.outputs}
    return ValueError(
        f"{model.name} gives one vector a position unless told: choose a pooling, one of "
        f"{', '.join(sorted(poolings))}"
    )
