"""Callers who pour and callers who leave, beside others."""

import threading
from collections.abc import Callable
from pathlib import Path

import grpc

from tests.contract.embedding.requests import (
    MINILM,
    TIMEOUT_S,
    embed,
    message,
    stream,
    text,
    vector,
)
from tests.process.oip.graphs import save_text_bundle
from tests.support import held_queue
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
        some_answered = threading.Event()
        long = "many words make a long sentence " * 20
        messages = (message(MINILM, text(str(n), long)) for n in range(300))

        def pour() -> None:
            for result in stream(EmbeddingServiceStub(pouring), messages):
                answered.append(result.item_id)
                if len(answered) == 100:
                    some_answered.set()

        thread = threading.Thread(target=pour)
        thread.start()
        assert some_answered.wait(TIMEOUT_S)
        before = len(answered)
        (result,) = embed(EmbeddingServiceStub(lone), MINILM, text("lone", "hello"))
        after = len(answered)
        thread.join()
    assert vector(result).shape == (384,)
    assert len(answered) == 300
    # 200 of the stream's items wait; what runs already may end first.
    assert after - before < 128


def test_what_a_leaving_caller_left_is_not_computed(repository: Path, tmp_path: Path) -> None:
    save_text_bundle(tmp_path, "small", repository / MINILM / "1", max_batch_rows=4)
    graph = '{graph="small/1/text"}'
    with (
        ServerProcess(tmp_path, *held_queue.FLAGS) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = EmbeddingServiceStub(channel)
        unanswered = server.metric(f"vecserve_unanswered_items{graph}")
        leaving = stub.EmbedStream(iter([message("small", *map(text, "abc"))]))
        while unanswered() != 3:
            pass
        leaving.cancel()
        while unanswered() != 0:
            pass
        # The fourth text would let go what is held, were it still there. For its own deadline it
        # is not held.
        (stays,) = embed(stub, "small", text("stays"))
        assert vector(stays).shape == (8,)
        assert server.metric(f"vecserve_batch_rows_sum{graph}")() == 1
