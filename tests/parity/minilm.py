"""MiniLM in other precisions: exported, run in this process, and texts to run it on."""

import csv
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
from tokenizers import Tokenizer
from typer.testing import CliRunner

from tests.conftest import ROOT
from tests.support import testdata
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


def export(precision: str, repository: Path) -> Path:
    """Export MiniLM and return the bundle's folder."""
    arguments = [NAME, "--precision", precision, "--output", str(repository)]
    result = CliRunner().invoke(app, [*arguments, "--cache", str(ROOT / ".cache" / "vecserve")])
    assert result.exit_code == 0, result.output
    return repository / f"{NAME}-{precision}" / "1"


def sts_pairs() -> tuple[list[str], list[str], npt.NDArray[np.float64]]:
    """The STS benchmark's test set: sentences, sentences, how alike people find them."""
    with testdata.sts_test().open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [row[5] for row in rows], [row[6] for row in rows], np.array([float(r[4]) for r in rows])


def assert_independent_of_batch_mates(encoder: Encoder, atol: float) -> None:
    """Compare short and long sentences, each alone, with all of them in one batch."""
    texts = sts_pairs()[0][::60]
    texts[::5] = [" ".join([text] * 6) for text in texts[::5]]
    together = encoder(texts)
    alone = np.concatenate([encoder([text]) for text in texts])
    np.testing.assert_allclose(together, alone, rtol=0, atol=atol)
