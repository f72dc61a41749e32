"""Items of vecserve.v1, BYTES tensors and the graph's own tensors share one batch."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
from tritonclient.grpc.aio import InferenceServerClient as AsyncClient

from tests.contract.embedding.requests import text
from tests.contract.oip.requests import MINILM, inputs, strings, tokens
from tests.support.server_process import ServerProcess
from vecserve.v1 import embedding_pb2
from vecserve.v1.embedding_pb2_grpc import EmbeddingServiceStub

# Long enough that requests sent together meet, on a busy machine too.
DELAY_US = 2_000_000


async def test_all_three_meet_in_one_batch(repository_of: Callable[..., Path]) -> None:
    # All rows have four tokens: nothing that is measured decides whether sharing is worth it.
    feeds = tokens(np.random.default_rng(0), 3, 4, 30_000)
    # On one core, or else the rows might be split evenly between the cores.
    flags = ("--queue-delay-us", str(DELAY_US), "--compute-cores", "1")
    with ServerProcess(repository_of(MINILM), *flags) as server:
        async with (
            AsyncClient(server.address) as client,
            grpc.aio.insecure_channel(server.address) as channel,
        ):
            request = embedding_pb2.EmbedRequest(model=MINILM, items=[text("a", "a sentence")])
            typed, raw, graph = await asyncio.gather(
                EmbeddingServiceStub(channel).Embed(request),
                client.infer(MINILM, inputs(text=strings(b"one sentence", b"two sentences"))),
                client.infer(f"{MINILM}.text", inputs(**feeds)),
            )
    assert typed.results[0].timings.batch_size == 1 + 2 + 3
    assert raw.as_numpy("embedding").shape == (2, 384)
    assert graph.as_numpy("pooled").shape == (3, 384)
