"""fp16 MiniLM, exported and served on a CPU: the fp32 vectors but for rounding."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.parity.minilm import NAME, Encoder, assert_independent_of_batch_mates, export, sts_pairs
from tests.support.server_process import ServerProcess
from vecserve import Client


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export("fp16", tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[Client]:
    with (
        ServerProcess(folder.parent.parent) as server,
        Client(server.address) as client,
    ):
        yield client


def test_served_vectors_are_those_of_fp32_but_for_rounding(
    client: Client, repository: Path
) -> None:
    (model,) = client.models()
    assert (model.name, model.precision) == (f"{NAME}-fp16", "fp16")
    texts = [text for text in sts_pairs()[0] if text][::5]
    served = client.embed(model.name, texts)
    # Held to PyTorch at its export, and in test_text_end_to_end.
    expected = Encoder(repository / NAME / "1").sorted_by_length(texts)
    assert served.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(served, axis=1), 1, rtol=1e-6)
    cosines = (served * expected).sum(-1, dtype=np.float64)
    assert cosines.min() >= 0.9995
    assert cosines.mean() >= 0.9999


def test_weights_take_half_the_space(folder: Path, repository: Path) -> None:
    fp32 = (repository / NAME / "1" / "text.onnx").stat().st_size
    assert (folder / "text.onnx").stat().st_size == pytest.approx(fp32 / 2, rel=0.01)


def test_vector_does_not_depend_on_batch_mates(folder: Path) -> None:
    # The largest number of a vector is about 0.2.
    assert_independent_of_batch_mates(Encoder(folder), atol=0.2 * 5e-3)
