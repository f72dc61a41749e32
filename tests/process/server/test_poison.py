"""An item that the model itself cannot compute fails alone."""

import hashlib
import json
import shutil
from pathlib import Path

import grpc

from tests.contract.embedding.requests import MINILM, embed, error, text, vector
from tests.support.server_process import ServerProcess
from vecserve.v1.embedding_pb2_grpc import EmbeddingServiceStub


def poisoned_copy(bundle: Path, folder: Path) -> None:
    """Copy a bundle, with a word whose token lies past the end of the graph's vocabulary."""
    shutil.copytree(bundle, folder)
    tokenizer = folder / "tokenizer.json"
    content = json.loads(tokenizer.read_text())
    content["model"]["vocab"]["poison"] = 1_000_000
    tokenizer.write_text(json.dumps(content))
    manifest = folder / "manifest.json"
    content = json.loads(manifest.read_text())
    content["files"]["tokenizer.json"] = hashlib.sha256(tokenizer.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(content))


def test_a_poisonous_item_fails_alone(
    repository: Path, tmp_path: Path, stub: EmbeddingServiceStub
) -> None:
    poisoned_copy(repository / MINILM / "1", tmp_path / MINILM / "1")
    sentences = [f"sentence {n}" if n != 20 else "a poison sentence" for n in range(40)]
    with (
        ServerProcess(tmp_path) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        items = [text(str(n), sentence) for n, sentence in enumerate(sentences)]
        results = embed(EmbeddingServiceStub(channel), MINILM, *items)
    shared = [result.timings.batch_size for result in results if result.item_id != "20"]
    assert max(shared) > 8
    expected = embed(stub, MINILM, *items[:20], *items[21:])
    code, reason, sentence = error(results.pop(20))
    assert (code, reason) == ("INTERNAL", "COMPUTE_FAILED")
    assert "the model failed on this item" in sentence
    for got, want in zip(results, expected, strict=True):
        assert abs(vector(got) - vector(want)).max() <= 1e-5
