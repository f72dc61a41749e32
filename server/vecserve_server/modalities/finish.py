"""Postprocessing: pooling, cutting and normalisation of what the graph gave for an item's rows."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vecserve_server.modalities.rows import FinishedVector, OutputPlan, Row, Span
from vecserve_server.repository.manifest import Pooling

# The least length a vector is divided by: torch.nn.functional.normalize's eps.
_EPSILON = 1e-12

Array = npt.NDArray[np.float32]


def finish(plan: OutputPlan, rows: Sequence[Row], outputs: Sequence[Array]) -> list[FinishedVector]:
    """Turn one output a row, float32 [..., dimensions], into the item's vectors.

    One vector a row, or, with `plan.pool_rows`, one in all: the rows' mean by
    weight; with `plan.pool_vectors` the mean of what they would be alone.

    Raises ValueError if `plan.pool_rows`, there are several and the graph gave
    no raw [dimensions] vectors: unit vectors have lost the length they had, so
    their mean is not the mean over positions.
    """
    if plan.pool_rows and len(rows) > 1:
        if plan.output.normalized or plan.output.pooling is Pooling.NONE:
            raise ValueError(
                f"rows of output {plan.output.name!r} cannot be pooled: choose a raw, pooled output"
            )
        vectors = [FinishedVector(_weighted_mean(rows, outputs), _cover(rows))]
    else:
        vectors = [
            FinishedVector(output, row.span) for row, output in zip(rows, outputs, strict=True)
        ]
    cut = bool(vectors) and plan.dimensions < vectors[0].values.shape[-1]
    if cut:
        vectors = [FinishedVector(v.values[..., : plan.dimensions], v.span) for v in vectors]
    if plan.normalize and (cut or not plan.output.normalized):
        vectors = [FinishedVector(_to_unit_length(v.values), v.span) for v in vectors]
    if plan.pool_vectors and len(vectors) > 1:
        mean = _weighted_mean(rows, [v.values for v in vectors])
        vectors = [FinishedVector(_to_unit_length(mean) if plan.normalize else mean, _cover(rows))]
    return vectors


def _weighted_mean(rows: Sequence[Row], outputs: Sequence[Array]) -> Array:
    weights = [row.weight for row in rows]
    mean = np.average(np.asarray(outputs, dtype=np.float64), axis=0, weights=weights)
    return mean.astype(np.float32)


def _cover(rows: Sequence[Row]) -> Span | None:
    """Return the span from the first row's start to the last one's end."""
    first, last = rows[0].span, rows[-1].span
    return None if first is None or last is None else Span(first.start_s, last.end_s)


def _to_unit_length(values: Array) -> Array:
    """Scale every vector of the last axis to unit L2 length; a zero vector stays zero."""
    lengths = np.linalg.norm(values, axis=-1, keepdims=True)
    unit: Array = values / np.maximum(lengths, np.float32(_EPSILON))
    return unit
