"""A server of the typed API whose models load when the test says so."""

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2

from vecserve.v1 import embedding_pb2 as pb
from vecserve.v1 import embedding_pb2_grpc, model_pb2

WAIT_S = 30


class LoadingServer(embedding_pb2_grpc.EmbeddingServiceServicer):
    """Embeds a text as [1.0] if its model is loaded, and else refuses it as ours does.

    Every model exists; the names in `loading` are not loaded. GetModel says of those in
    `said_ready` that they are, as another server behind one address would. A context.
    """

    def __init__(self, *loading: str) -> None:
        self.loading = set(loading)
        self.said_ready: set[str] = set()
        self.embedded: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self._news = threading.Condition()

    def __enter__(self) -> "LoadingServer":
        self._server = grpc.server(ThreadPoolExecutor(16))
        embedding_pb2_grpc.add_EmbeddingServiceServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End it, with all calls."""
        self._server.stop(None).wait()

    def load(self, name: str) -> None:
        """Let a model answer from now on."""
        with self._news:
            self.loading.discard(name)

    def wait_for_refusals(self, texts: int, times: int = 1) -> None:
        """Wait until so many texts have been refused so many times each."""
        with self._news:
            assert self._news.wait_for(
                lambda: sum(count >= times for count in self.refused.values()) >= texts, WAIT_S
            )

    def GetModel(self, request: pb.GetModelRequest, _: object) -> pb.GetModelResponse:
        with self._news:
            loading = request.model in self.loading - self.said_ready
        state = model_pb2.MODEL_STATE_LOADING if loading else model_pb2.MODEL_STATE_READY
        info = model_pb2.ModelInfo(name=request.model, dimensions=1, state=state, trained=True)
        info.modalities.add(modality=model_pb2.MODALITY_TEXT)
        return pb.GetModelResponse(model=info)

    def EmbedStream(
        self, messages: Iterator[pb.EmbedStreamRequest], _: object
    ) -> Iterator[pb.EmbedStreamResponse]:
        for message in messages:
            for item in message.items:
                yield pb.EmbedStreamResponse(results=[self._answer(message.model, item)])

    def _answer(self, model: str, item: pb.Item) -> pb.ItemResult:
        result = pb.ItemResult(item_id=item.item_id)
        with self._news:
            loading = model in self.loading
            (self.refused if loading else self.embedded)[item.text] += 1
            self._news.notify_all()
        if loading:
            result.error.code = code_pb2.UNAVAILABLE
            result.error.message = f"model {model!r} is still loading"
            info = error_details_pb2.ErrorInfo(reason="MODEL_LOADING", domain="vecserve")
            packed = any_pb2.Any()
            packed.Pack(info)
            result.error.details.append(packed)
        else:
            result.embedding.vectors.add(
                data=np.ones(1, "<f4").tobytes(), shape=[1], dtype=pb.DATA_TYPE_FLOAT32
            )
        return result
