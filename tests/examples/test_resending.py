"""What an example sends again after its stream breaks: the unanswered items, nothing else."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from google.rpc import status_pb2

from tests.examples.programs import LANGUAGES, Example, need_tools
from vecserve.v1 import embedding_pb2, embedding_pb2_grpc

ONES = embedding_pb2.Embedding(
    vectors=[
        embedding_pb2.Vector(
            data=np.ones(4, "<f4").tobytes(), shape=[4], dtype=embedding_pb2.DATA_TYPE_FLOAT32
        )
    ]
)


class BrokenServer(embedding_pb2_grpc.EmbeddingServiceServicer):
    """A server of one restart.

    It answers one item of the first stream and goes away; all but one of the second, whose model
    is still being loaded; and all of any further stream. `received` has each stream's contents.
    """

    def __init__(self) -> None:
        self.received: list[list[str | bytes]] = []
        self._lock = threading.Lock()

    def EmbedStream(
        self,
        request_iterator: Iterator[embedding_pb2.EmbedStreamRequest],
        context: grpc.ServicerContext,
    ) -> Iterator[embedding_pb2.EmbedStreamResponse]:
        items = [item for request in request_iterator for item in request.items]
        with self._lock:
            self.received.append([item.text or item.image or item.audio for item in items])
            stream = len(self.received)
        for i, item in enumerate(items):
            result = embedding_pb2.ItemResult(item_id=item.item_id, embedding=ONES)
            if stream == 1 and i == 1:
                context.abort(grpc.StatusCode.UNAVAILABLE, "the server is shutting down")
            if stream == 2 and i == 0:
                error = status_pb2.Status(code=14, message="the model is being loaded")
                result = embedding_pb2.ItemResult(item_id=item.item_id, error=error)
            yield embedding_pb2.EmbedStreamResponse(results=[result])

    def ListModels(
        self, request: embedding_pb2.ListModelsRequest, context: grpc.ServicerContext
    ) -> embedding_pb2.ListModelsResponse:
        return embedding_pb2.ListModelsResponse()


@pytest.mark.parametrize("language", LANGUAGES)
def test_resends_only_what_has_no_answer(language: str) -> None:
    need_tools(language)
    service = BrokenServer()  # type: ignore[abstract]  # two calls are not implemented
    server = grpc.server(ThreadPoolExecutor(2))
    embedding_pb2_grpc.add_EmbeddingServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        output = Example(language, f"127.0.0.1:{port}").finish()
    finally:
        server.stop(None).wait()
    first, second, third, fourth, *_ = service.received
    assert len(first) >= 3
    assert set(second) < set(first)
    assert len(second) == len(first) - 1
    assert third == second[:1], "only the item whose model was not ready"
    assert not set(fourth) & set(first)
    assert output.text.count("unavailable: ") == 2
    assert output.dimensions.keys() >= {"reset-password", "forgot-login", "austen-0890.flac"}
