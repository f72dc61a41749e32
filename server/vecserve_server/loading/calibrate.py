"""Calibration: a graph's warm-up, and the first measurements of its cost model."""

import time
from collections.abc import Callable, Iterable, Iterator

from vecserve_server.engine.engine import Engine, Job
from vecserve_server.engine.providers import cuda
from vecserve_server.scheduling.cost_model import CostModel, Sample

# Shapes measured (rows, positions), where the graph has lengths and where not.
_SHAPES_OF_LENGTHS = ((1, 8), (1, 128), (2, 128), (4, 8), (4, 32))
_SHAPES_OF_ONE = ((1, 1), (2, 1))
_CARD_SHAPES_OF_LENGTHS = [
    *((1, 8), (1, 128), (8, 16), (8, 128), (32, 16), (32, 128), (64, 32), (64, 256)),
    *((128, 128), (256, 16), (256, 64)),
]
# A shape is measured this often, and the quickest counts. Once is enough, and
# no other shape is needed, if it took so long.
_TIMES = 3
_LONG_S = 0.2
# How often all cores are measured against one.
_PAIRS = 6


def calibrate(
    engine: Engine,
    row_of: Callable[[int], Job],
    *,
    has_lengths: bool,
    max_rows: int,
    max_positions: int,
    step: int,
) -> CostModel:
    """Run a few batches of blank rows and return a cost model fitted to them.

    `row_of(positions)` makes a valid row. Lengths are measured in steps of `step` positions, up
    to `max_positions` steps. Raises what the graph raises.
    """
    shapes = _SHAPES_OF_LENGTHS if has_lengths else _SHAPES_OF_ONE
    samples = []
    for jobs in _batches(shapes, row_of, max_rows, max_positions, step):
        samples.append(_sample(engine, jobs))
        # Where one row keeps a core busy for so long, there is nothing to share.
        if samples[-1].seconds > _LONG_S:
            break
    # The last shape has enough to do for several cores. In turns, so that what
    # else the machine does in between slows both alike.
    jobs = [row_of(samples[-1].positions)] * samples[-1].rows
    pairs = [
        (
            _measure(engine, jobs, all_cores=False, times=1),
            _measure(engine, jobs, all_cores=True, times=1),
        )
        for _ in range(1 if samples[-1].seconds > _LONG_S else _PAIRS)
    ]
    one_core_s, all_cores_s = (min(seconds) for seconds in zip(*pairs, strict=True))
    return CostModel(samples, speedup=one_core_s / all_cores_s)


def calibrate_card(
    engine: Engine,
    row_of: Callable[[int], Job],
    *,
    has_lengths: bool,
    max_rows: int,
    max_positions: int,
    step: int,
) -> CostModel:
    """Do what `calibrate` does for a card, and make ready for every size of a batch.

    Its cores are not shared out: a batch takes them all.
    """
    sizes = [(rows, 1) for rows in cuda.batch_sizes(max_rows)]
    shapes = _CARD_SHAPES_OF_LENGTHS if has_lengths else sizes
    samples = []
    for jobs in _batches(shapes, row_of, max_rows, max_positions, step):
        # The first run of a shape plans, and takes memory.
        _measure(engine, jobs, all_cores=False, times=1)
        samples.append(_sample(engine, jobs))
        if len(jobs) == max_rows or samples[-1].seconds > _LONG_S:
            break
    return CostModel(samples, speedup=1.0)


def _batches(
    shapes: Iterable[tuple[int, int]],
    row_of: Callable[[int], Job],
    max_rows: int,
    max_positions: int,
    step: int,
) -> Iterator[list[Job]]:
    """Yield a batch of each shape, within the bounds."""
    for rows, positions in shapes:
        yield [row_of(step * min(positions, max_positions))] * min(rows, max_rows)


def _sample(engine: Engine, jobs: list[Job]) -> Sample:
    return Sample(len(jobs), jobs[0].positions, _measure(engine, jobs, all_cores=False))


def _measure(engine: Engine, jobs: list[Job], *, all_cores: bool, times: int = _TIMES) -> float:
    """Return the least seconds that a batch took."""
    least = float("inf")
    for _ in range(times):
        started = time.perf_counter()
        for outcome in engine.run(jobs, all_cores=all_cores):
            if isinstance(outcome, Exception):
                raise outcome
        least = min(least, time.perf_counter() - started)
        if least > _LONG_S:
            break
    return least
