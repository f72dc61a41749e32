"""finish: rows' outputs to an item's vectors."""

import numpy as np
import pytest
import torch

from vecserve_server.modalities.finish import finish
from vecserve_server.modalities.rows import OutputPlan, Row, Span
from vecserve_server.repository.manifest import Output, Pooling

RAW = Output(name="mean", pooling=Pooling.MEAN, normalized=False)
UNIT = Output(name="unit", pooling=Pooling.MEAN, normalized=True)
SEQUENCE = Output(name="sequence", pooling=Pooling.NONE, normalized=False)
ROWS = (
    Row({}, weight=1500, span=Span(0.0, 30.0)),
    Row({}, weight=1500, span=Span(30.0, 60.0)),
    Row({}, weight=7, span=Span(60.0, 60.13)),
)


def outputs(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_a_vector_a_row_as_the_graph_gave_it() -> None:
    given = outputs(3, 8)
    vectors = finish(
        OutputPlan(RAW, normalize=False, pool_rows=False, dimensions=8), ROWS, list(given)
    )
    assert [vector.span for vector in vectors] == [row.span for row in ROWS]
    assert np.array_equal([vector.values for vector in vectors], given)


def test_rows_are_pooled_by_weight_over_the_whole_span() -> None:
    given = outputs(3, 8)
    (vector,) = finish(
        OutputPlan(RAW, normalize=False, pool_rows=True, dimensions=8), ROWS, list(given)
    )
    positions = np.repeat(given.astype(np.float64), [1500, 1500, 7], axis=0)
    assert vector.values.dtype == np.float32
    np.testing.assert_allclose(vector.values, positions.mean(axis=0), rtol=0, atol=1e-7)
    assert vector.span == Span(0.0, 60.13)


def test_pooled_rows_are_normalised_after_pooling() -> None:
    given = outputs(3, 8)
    (pooled,) = finish(
        OutputPlan(RAW, normalize=False, pool_rows=True, dimensions=8), ROWS, list(given)
    )
    (unit,) = finish(
        OutputPlan(RAW, normalize=True, pool_rows=True, dimensions=8), ROWS, list(given)
    )
    expected = torch.nn.functional.normalize(torch.from_numpy(pooled.values), dim=-1).numpy()
    np.testing.assert_allclose(unit.values, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("output", [RAW, UNIT, SEQUENCE])
def test_one_row_pooled_is_that_row_to_the_bit(output: Output) -> None:
    given = outputs(8)
    (vector,) = finish(
        OutputPlan(output, normalize=False, pool_rows=True, dimensions=8), ROWS[2:], [given]
    )
    assert vector.values.tobytes() == given.tobytes()
    assert vector.span == ROWS[2].span


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e-15, 0.0])
def test_normalising_equals_torch(scale: float) -> None:
    given = outputs(5, 8) * np.float32(scale)
    (vector,) = finish(
        OutputPlan(SEQUENCE, normalize=True, pool_rows=False, dimensions=8), ROWS[:1], [given]
    )
    expected = torch.nn.functional.normalize(torch.from_numpy(given), dim=-1).numpy()
    np.testing.assert_allclose(vector.values, expected, rtol=1e-6, atol=0)
    assert vector.values.dtype == np.float32


def test_what_the_graph_normalised_is_left_alone() -> None:
    given = outputs(8)
    (vector,) = finish(
        OutputPlan(UNIT, normalize=True, pool_rows=False, dimensions=8), ROWS[:1], [given]
    )
    assert vector.values.tobytes() == given.tobytes()


@pytest.mark.parametrize("output", [UNIT, SEQUENCE])
def test_only_raw_pooled_vectors_can_be_pooled(output: Output) -> None:
    with pytest.raises(ValueError, match="choose a raw, pooled output"):
        finish(
            OutputPlan(output, normalize=True, pool_rows=True, dimensions=8),
            ROWS,
            list(outputs(3, 8)),
        )


@pytest.mark.parametrize("output", [RAW, UNIT])
def test_cut_vectors_are_of_unit_length_again(output: Output) -> None:
    given = outputs(8)
    plan = OutputPlan(output, normalize=True, pool_rows=False, dimensions=3)
    (vector,) = finish(plan, ROWS[:1], [given])
    expected = torch.nn.functional.normalize(torch.from_numpy(given[:3]), dim=-1).numpy()
    np.testing.assert_allclose(vector.values, expected, rtol=1e-6, atol=0)


def test_cut_vectors_that_were_not_normalised_stay_so() -> None:
    given = outputs(8)
    plan = OutputPlan(RAW, normalize=False, pool_rows=False, dimensions=3)
    (vector,) = finish(plan, ROWS[:1], [given])
    assert vector.values.tolist() == given[:3].tolist()
