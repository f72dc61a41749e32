"""An item that the model itself cannot compute fails alone."""

from pathlib import Path

import grpc

from tests.contract.embedding.requests import MINILM, embed, error, text, vector
from tests.process.oip.graphs import save_text_bundle
from tests.support import held_queue
from tests.support.server_process import ServerProcess
from vecserve.v1 import embedding_pb2 as pb
from vecserve.v1.embedding_pb2_grpc import EmbeddingServiceStub

ROWS = 12


def test_a_poisonous_item_fails_alone(repository: Path, tmp_path: Path) -> None:
    bundle = repository / MINILM / "1"
    save_text_bundle(tmp_path, "small", bundle, max_batch_rows=ROWS, word="poison")
    request = pb.EmbedRequest(
        model="small",
        items=[text(str(n), f"{'poison' if n == 5 else 'sentence'} {n}") for n in range(ROWS)],
    )
    with (
        ServerProcess(tmp_path, *held_queue.FLAGS) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = EmbeddingServiceStub(channel)
        results = list(stub.Embed(request).results)
        code, reason, sentence = error(results.pop(5))
        # One by one: not held, for the deadline of each.
        del request.items[5]
        expected = [vector(*embed(stub, "small", item)) for item in request.items]
    assert (code, reason) == ("INTERNAL", "COMPUTE_FAILED")
    assert "the model failed on this item" in sentence
    assert {result.timings.batch_size for result in results} == {ROWS}
    for got, want in zip(results, expected, strict=True):
        assert abs(vector(got) - want).max() <= 1e-5
