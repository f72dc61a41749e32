"""Batches filled up to few sizes, as graphs with convolutions run on a card."""

from pathlib import Path

import numpy as np
import pytest

from vecserve_server.engine.engine import Engine, Job
from vecserve_server.engine.padding import GraphSpec
from vecserve_server.engine.providers import cuda
from vecserve_server.engine.session import Session
from vecserve_server.engine.watchdog import Watchdog

SIZES = (1, 4, 16)


class FilledUp(Session):
    """A session on the CPU that wants what one on a card wants."""

    def full_batch(self, rows: int) -> int:
        return next((size for size in SIZES if size >= rows), rows)


@pytest.fixture
def engine(repository: Path, tmp_path: Path) -> Engine:
    graph = repository / "resnet-50" / "1" / "image.onnx"
    session = FilledUp(graph, graph.parent.name, cores=1, cache=tmp_path)
    return Engine("graph", session, GraphSpec({}, frozenset()), Watchdog(60.0, cores=1))


def photos(rows: int) -> Job:
    pixels = np.random.default_rng(rows).integers(0, 256, (rows, 224, 224, 3), np.uint8)
    return Job({"pixels": pixels}, rows, 1, ("pooled",))


@pytest.mark.parametrize("sizes", [(2, 1), (3,), (4,), (1,), (3, 2)])
def test_every_job_gets_its_own_rows(sizes: tuple[int, ...], engine: Engine) -> None:
    jobs = [photos(rows) for rows in sizes]
    for job, together in zip(jobs, engine.run(jobs), strict=True):
        assert not isinstance(together, Exception)
        for row, pixels in zip(together["pooled"], job.feeds["pixels"], strict=True):
            (alone,) = engine.run([Job({"pixels": pixels[None]}, 1, 1, ("pooled",))])
            assert not isinstance(alone, Exception)
            np.testing.assert_allclose(row, alone["pooled"][0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("most", "sizes"), [(128, (1, 8, 32, 128)), (32, (1, 2, 8, 32)), (3, (1, 3)), (1, (1,))]
)
def test_sizes_are_few_and_end_with_the_largest_batch(most: int, sizes: tuple[int, ...]) -> None:
    assert cuda.batch_sizes(most) == sizes
