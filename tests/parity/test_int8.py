"""int8 MiniLM on the STS benchmark: as good as fp32, and the same in any company."""

import csv
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from tokenizers import Tokenizer
from typer.testing import CliRunner

from tests import testdata
from tests.conftest import ROOT
from vecserve_export.__main__ import app

Vectors = npt.NDArray[np.float32]
NAME = "all-MiniLM-L6-v2"


class Encoder:
    """A bundle's graph, run in this process."""

    def __init__(self, folder: Path) -> None:
        self._session = onnxruntime.InferenceSession(
            folder / "text.onnx", providers=["CPUExecutionProvider"]
        )
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(256)
        self._tokenizer.enable_padding()

    def __call__(self, texts: list[str]) -> Vectors:
        encodings = self._tokenizer.encode_batch(texts)
        feeds = {
            "input_ids": np.array([encoding.ids for encoding in encodings]),
            "attention_mask": np.array([encoding.attention_mask for encoding in encodings]),
        }
        vectors: Vectors = self._session.run(["sentence_embedding"], feeds)[0]
        return vectors

    def sorted_by_length(self, texts: list[str], rows: int = 16) -> Vectors:
        """Embed many texts with little padding; answers come in the texts' order."""
        order = np.argsort([len(text) for text in texts])
        vectors = np.concatenate(
            [
                self([texts[index] for index in order[start : start + rows]])
                for start in range(0, len(order), rows)
            ]
        )
        return vectors[np.argsort(order)]


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    repository = tmp_path_factory.mktemp("models")
    arguments = [NAME, "--precision", "int8", "--output", str(repository)]
    result = CliRunner().invoke(app, [*arguments, "--cache", str(ROOT / ".cache" / "vecserve")])
    assert result.exit_code == 0, result.output
    return Encoder(repository / f"{NAME}-int8" / "1")


@pytest.fixture(scope="module")
def pairs() -> tuple[list[str], list[str], npt.NDArray[np.float64]]:
    """The STS benchmark's test set: sentences, sentences, how alike people find them."""
    with testdata.sts_test().open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [row[5] for row in rows], [row[6] for row in rows], np.array([float(r[4]) for r in rows])


def ranks(values: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Ranks, ties sharing their mean."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def test_sts_benchmark_finds_no_difference(
    int8: Encoder,
    repository: Path,
    pairs: tuple[list[str], list[str], npt.NDArray[np.float64]],
) -> None:
    left, right, gold = pairs
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


def test_vector_is_the_same_alone_and_in_company(
    int8: Encoder, pairs: tuple[list[str], list[str], npt.NDArray[np.float64]]
) -> None:
    texts = pairs[0][::60]
    texts[::5] = [" ".join([text] * 6) for text in texts[::5]]
    together = int8(texts)
    alone = np.concatenate([int8([text]) for text in texts])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)
