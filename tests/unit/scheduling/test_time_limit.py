"""How long a batch may run: by what was measured at load, whatever came since."""

import pytest

from vecserve_server.scheduling.cost_model import CostModel, Sample
from vecserve_server.scheduling.time_limit import TimeLimit

# A long batch: of one row of one position.
MEASURED_S = 0.8


def cost_model() -> CostModel:
    return CostModel([Sample(1, 1, MEASURED_S), Sample(2, 1, 2 * MEASURED_S)], speedup=1.0)


def test_the_bound_is_a_multiple_of_what_was_measured_within_limits() -> None:
    limit, cost = TimeLimit(), cost_model()
    assert limit.seconds(cost, rows=1, positions=1) == pytest.approx(20 * MEASURED_S, rel=0.01)
    assert limit.seconds(cost, rows=2, positions=1) == pytest.approx(40 * MEASURED_S, rel=0.01)
    assert limit.seconds(cost, rows=1000, positions=1) == 300
    quick = CostModel([Sample(1, 1, 0.001)], speedup=1.0)
    assert limit.seconds(quick, rows=1, positions=1) == 10


def test_slow_batches_do_not_raise_the_bound_of_the_next_ones() -> None:
    limit, cost = TimeLimit(), cost_model()
    before = limit.seconds(cost, rows=1, positions=1)
    for _ in range(1000):
        cost.observe(Sample(1, 1, 10 * MEASURED_S))
    assert cost.seconds(1, 1) > 5 * MEASURED_S
    assert limit.seconds(cost, rows=1, positions=1) == before


def test_what_the_operator_says_counts_for_every_batch() -> None:
    limit = TimeLimit(2.5)
    assert limit.unmeasured_s == 2.5
    assert limit.seconds(cost_model(), rows=1000, positions=1) == 2.5
