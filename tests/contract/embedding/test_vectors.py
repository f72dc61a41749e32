"""Rules of batches: callers share them, and no vector depends on who shared one."""

import random
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np

from tests.contract.embedding.requests import (
    MINILM,
    embed,
    message,
    result_of,
    stream,
    text,
    vector,
)
from vecserve.v1.embedding_pb2_grpc import EmbeddingServiceStub

WORDS = (
    *("the", "quick", "brown", "fox", "jumps", "over", "a"),
    *("lazy", "dog", "while", "we", "embed", "many", "words"),
)


def test_streams_of_single_items_share_batches(server_address: str) -> None:
    def one_stream(number: int) -> list[int]:
        with grpc.insecure_channel(server_address) as channel:
            messages = (message(MINILM, text(f"{number}-{n}", "a few words")) for n in range(200))
            results = list(stream(EmbeddingServiceStub(channel), messages))
        assert len(results) == 200
        return [result.timings.batch_size for result in results]

    with ThreadPoolExecutor(4) as pool:
        sizes = [size for stream_sizes in pool.map(one_stream, range(4)) for size in stream_sizes]
    # How many share one depends on how fast the machine is at the moment.
    assert max(sizes) > 1


def test_a_vector_does_not_depend_on_its_batch(stub: EmbeddingServiceStub) -> None:
    rng = random.Random(0)
    sentences = [" ".join(rng.choices(WORDS, k=rng.randint(1, 60))) for _ in range(32)]
    alone = [vector(result_of(stub, MINILM, text("a", sentence))) for sentence in sentences]
    sizes = set()
    for _ in range(3):
        results = embed(stub, MINILM, *(text(str(n), s) for n, s in enumerate(sentences)))
        sizes |= {result.timings.batch_size for result in results}
        together = [vector(result) for result in results]
        assert np.abs(np.subtract(together, alone)).max() <= 1e-5
    assert max(sizes) >= 4
