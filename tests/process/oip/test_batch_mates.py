"""Items of vecserve.v1, BYTES tensors and the graph's own tensors share one batch."""

import asyncio
from pathlib import Path

import grpc
import numpy as np
from tritonclient.grpc.aio import InferenceServerClient as AsyncClient

from tests.contract.embedding.requests import text
from tests.contract.oip.requests import MINILM, inputs, strings, tokens
from tests.process.oip.graphs import save_text_bundle
from tests.support import held_queue
from tests.support.server_process import ServerProcess
from vecserve.v1 import embedding_pb2
from vecserve.v1.embedding_pb2_grpc import EmbeddingServiceStub

ROWS = 1 + 2 + 3


async def test_all_three_meet_in_one_batch(repository: Path, tmp_path: Path) -> None:
    # All rows have four tokens.
    save_text_bundle(tmp_path, "small", repository / MINILM / "1", max_batch_rows=ROWS)
    feeds = tokens(np.random.default_rng(0), 3, 4, 30_000)
    with ServerProcess(tmp_path, *held_queue.FLAGS) as server:
        async with (
            AsyncClient(server.address) as client,
            grpc.aio.insecure_channel(server.address) as channel,
        ):
            request = embedding_pb2.EmbedRequest(model="small", items=[text("a", "a sentence")])
            typed, raw, graph = await asyncio.gather(
                EmbeddingServiceStub(channel).Embed(request),
                client.infer("small", inputs(text=strings(b"one sentence", b"two sentences"))),
                client.infer("small.text", inputs(**feeds)),
            )
    assert typed.results[0].timings.batch_size == ROWS
    assert raw.as_numpy("embedding").shape == (2, 8)
    assert graph.as_numpy("pooled").shape == (3, 8)
