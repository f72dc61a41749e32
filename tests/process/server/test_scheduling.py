"""Callers who pour and callers who leave, beside others."""

import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path

import grpc

from tests.contract.embedding.requests import (
    MINILM,
    WHISPER,
    Sender,
    audio,
    embed,
    message,
    stream,
    text,
    vector,
)
from tests.support.server_process import ServerProcess
from vecserve.v1.embedding_pb2_grpc import EmbeddingServiceStub

MakeRepository = Callable[..., Path]


def test_one_sentence_overtakes_a_stream_that_pours(
    repository_of: MakeRepository,
) -> None:
    """While a stream pours, another caller's sentence is answered before what waits in it."""
    with (
        ServerProcess(repository_of(MINILM)) as server,
        grpc.insecure_channel(server.address) as pouring,
        grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) as lone,
    ):
        answered: list[str] = []
        half_way = threading.Event()
        long = "many words make a long sentence " * 20
        messages = (message(MINILM, text(str(n), long)) for n in range(600))

        def pour() -> None:
            for result in stream(EmbeddingServiceStub(pouring), messages):
                answered.append(result.item_id)
                if len(answered) == 100:
                    half_way.set()

        thread = threading.Thread(target=pour)
        thread.start()
        assert half_way.wait(60)
        before = len(answered)
        (result,) = embed(EmbeddingServiceStub(lone), MINILM, text("lone", "hello"))
        after = len(answered)
        thread.join()
    assert vector(result).shape == (384,)
    assert len(answered) == 600
    # 256 of the stream's items wait at any time; what runs already may end first.
    assert after - before < 64


def test_what_a_leaving_caller_left_is_not_computed(
    repository_of: MakeRepository, long_speech: bytes, speech: list[bytes]
) -> None:
    with (
        ServerProcess(repository_of(WHISPER)) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = EmbeddingServiceStub(channel)
        sender = Sender()
        leaving = stub.EmbedStream(iter(sender))
        for n in range(20):
            sender.send(message(WHISPER, audio(str(n), long_speech)))
        next(leaving)
        leaving.cancel()
        sender.close()
        (stays,) = embed(stub, WHISPER, audio("stays", speech[0]))
        assert vector(stays).shape == (512,)
        with urllib.request.urlopen(server.metrics_url) as response:
            page = response.read().decode()
    graph = f'{{graph="{WHISPER}/1/audio"}}'
    metrics = dict(line.rsplit(" ", 1) for line in page.splitlines() if graph in line)
    # The stream held 60 windows.
    assert float(metrics[f"vecserve_batch_rows_sum{graph}"]) < 20
    assert float(metrics[f"vecserve_unanswered_items{graph}"]) == 0
