"""Served vectors of sentence-transformers folders against SentenceTransformer.encode."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling
from typer.testing import CliRunner

from tests.conftest import ROOT
from tests.parity.minilm import sts_pairs
from tests.parity.test_text_end_to_end import rank_correlation, varied_sentences
from tests.support.sentence_transformers import WIDTH, save
from tests.support.server_process import ServerProcess
from vecserve import Client
from vecserve_export.__main__ import app
from vecserve_export.request import Request
from vecserve_export.weights import obtain

CACHE = ROOT / ".cache" / "vecserve"
MPNET = "all-mpnet-base-v2"
PROMPTS = {"query": "query: ", "passage": "passage: "}


def export(model: str | Path, repository: Path, *arguments: str) -> None:
    done = CliRunner().invoke(
        app, [str(model), "--output", str(repository), "--cache", str(CACHE), *arguments]
    )
    assert done.exit_code == 0, done.output


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Client, Path]]:
    """A server of small random models, and the folders they were exported from."""
    folders = tmp_path_factory.mktemp("folders")
    mean, cls = Pooling(WIDTH), Pooling(WIDTH, "cls")
    save(folders / "tiny-e5", "bert", mean, Normalize(), prompts=PROMPTS)
    save(folders / "tiny-bge", "bert", cls, Normalize(), max_tokens=200)
    save(folders / "tiny-modernbert", "modernbert", cls, Normalize(), max_tokens=200)
    save(folders / "tiny-mpnet", "mpnet", mean, max_tokens=200)
    repository = tmp_path_factory.mktemp("models")
    names = ("tiny-e5", "tiny-bge", "tiny-modernbert", "tiny-mpnet")
    for name in names:
        cut = ("--matryoshka", str(WIDTH // 2)) if name == "tiny-e5" else ()
        export(folders / name, repository, *cut)
    with ServerProcess(repository) as server:
        yield Client(server.address), folders
        log = server.log
    assert "Traceback" not in log


@pytest.mark.parametrize("name", ["tiny-bge", "tiny-modernbert", "tiny-mpnet"])
def test_vectors_equal_sentence_transformers(name: str, tiny: tuple[Client, Path]) -> None:
    client, folders = tiny
    texts = varied_sentences()[::4]
    expected = SentenceTransformer(str(folders / name), device="cpu").encode(texts)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(client.embed(name, texts), expected, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_prompted_vectors_equal_sentence_transformers(
    prompt: str, tiny: tuple[Client, Path]
) -> None:
    client, folders = tiny
    texts = varied_sentences()[::4]
    model = SentenceTransformer(str(folders / "tiny-e5"), device="cpu")
    served = client.embed("tiny-e5", texts, input_type=prompt)
    np.testing.assert_allclose(served, model.encode(texts, prompt_name=prompt), rtol=0, atol=1e-5)


def test_cut_vectors_equal_sentence_transformers(tiny: tuple[Client, Path]) -> None:
    client, folders = tiny
    texts = varied_sentences()[::4]
    model = SentenceTransformer(str(folders / "tiny-e5"), device="cpu", truncate_dim=WIDTH // 2)
    expected = model.encode(texts, prompt_name="query", normalize_embeddings=True)
    served = client.embed("tiny-e5", texts, input_type="query", dimensions=WIDTH // 2)
    np.testing.assert_allclose(served, expected, rtol=0, atol=1e-5)
    assert client.model("tiny-e5").matryoshka_dimensions == (WIDTH // 2,)


@pytest.fixture(scope="module")
def mpnet(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Client, SentenceTransformer]]:
    """A server of the trained MPNet, and sentence-transformers' own."""
    repository = tmp_path_factory.mktemp("models")
    export(MPNET, repository, "--source", "packages")
    request = Request(MPNET, "packages", allow_untrained=False, cache=CACHE)
    folder = obtain(request, tmp_path_factory.mktemp("scratch")).folder
    with ServerProcess(repository) as server:
        yield Client(server.address), SentenceTransformer(str(folder), device="cpu")


@pytest.mark.long
def test_trained_mpnet_equals_sentence_transformers(
    mpnet: tuple[Client, SentenceTransformer],
) -> None:
    client, model = mpnet
    sentences = varied_sentences()
    served, expected = client.embed(MPNET, sentences), model.encode(sentences)
    assert served.shape == (200, 768)
    cosines = np.sum(served * expected, axis=1)
    print(f"min cosine {cosines.min():.9f}, max abs error {np.abs(served - expected).max():.2g}")
    assert cosines.min() >= 0.99999
    assert np.abs(served - expected).max() <= 1e-5


@pytest.mark.long
def test_trained_mpnet_on_the_sts_benchmark(mpnet: tuple[Client, SentenceTransformer]) -> None:
    client, model = mpnet
    left, right, scores = sts_pairs()
    assert len(scores) == 1379
    served = rank_correlation(
        np.sum(client.embed(MPNET, left) * client.embed(MPNET, right), axis=1), scores
    )
    reference = rank_correlation(np.sum(model.encode(left) * model.encode(right), axis=1), scores)
    print(f"Spearman {served:.6f} served, {reference:.6f} sentence-transformers")
    assert served == pytest.approx(reference, abs=0.0005)
