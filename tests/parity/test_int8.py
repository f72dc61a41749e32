"""int8 MiniLM on the STS benchmark: as good as fp32, and independent of batch-mates."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests.parity.minilm import NAME, Encoder, assert_independent_of_batch_mates, export, sts_pairs


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return Encoder(export("int8", tmp_path_factory.mktemp("models")))


def ranks(values: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Ranks, ties sharing their mean."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks_of_values: npt.NDArray[np.float64] = np.cumsum(counts) - (counts - 1) / 2
    return ranks_of_values[inverse]


def test_sts_benchmark_finds_no_difference(int8: Encoder, repository: Path) -> None:
    left, right, gold = sts_pairs()
    spearman, vectors = {}, {}
    for precision, encoder in {"fp32": Encoder(repository / NAME / "1"), "int8": int8}.items():
        both = encoder.sorted_by_length(left + right)
        likeness = (both[: len(left)] * both[len(left) :]).sum(-1)
        spearman[precision] = np.corrcoef(ranks(likeness), ranks(gold))[0, 1]
        vectors[precision] = both
    assert spearman["fp32"] == pytest.approx(0.8203, abs=5e-4)
    assert spearman["int8"] == pytest.approx(spearman["fp32"], abs=0.003)
    cosines = (vectors["fp32"] * vectors["int8"]).sum(-1)
    assert cosines.mean() >= 0.995


def test_vector_does_not_depend_on_batch_mates(int8: Encoder) -> None:
    assert_independent_of_batch_mates(int8, atol=1e-5)
