"""Fake server of the typed API: one item at a time, each for at least a given service time.

    python fake_server.py SERVICE_SECONDS

Prints its address, and serves until stdin ends. Of messages of two items and more, every other
one's second item gets an error, the first message's not.
"""

import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
from google.rpc import code_pb2

from vecserve.v1 import embedding_pb2 as pb
from vecserve.v1 import embedding_pb2_grpc, model_pb2


class Slow(embedding_pb2_grpc.EmbeddingServiceServicer):
    """Answers every item with the same vector, after the service time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def Embed(self, request: pb.EmbedRequest, _: object) -> pb.EmbedResponse:
        return pb.EmbedResponse(results=[self._result(item) for item in request.items])

    def EmbedStream(
        self, messages: Iterator[pb.EmbedStreamRequest], _: object
    ) -> Iterator[pb.EmbedStreamResponse]:
        for message in messages:
            yield pb.EmbedStreamResponse(results=[self._result(item) for item in message.items])

    def GetModel(self, request: pb.GetModelRequest, _: object) -> pb.GetModelResponse:
        info = model_pb2.ModelInfo(name=request.model, trained=True)
        info.modalities.add(modality=model_pb2.MODALITY_TEXT)
        return pb.GetModelResponse(model=info)

    def ListModels(self, _: pb.ListModelsRequest, context: object) -> pb.ListModelsResponse:
        return pb.ListModelsResponse(models=[])

    def _result(self, item: pb.Item) -> pb.ItemResult:
        time.sleep(self._seconds)
        result = pb.ItemResult(item_id=item.item_id)
        message, position = map(int, item.item_id.split("."))
        if message % 2 and position == 1:
            result.error.code = code_pb2.INTERNAL
        else:
            result.embedding.vectors.add(data=bytes(4), shape=[1])
        return result


def main() -> None:
    # One thread, so that requests queue.
    server = grpc.server(ThreadPoolExecutor(1))
    embedding_pb2_grpc.add_EmbeddingServiceServicer_to_server(Slow(float(sys.argv[1])), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"127.0.0.1:{port}", flush=True)
    sys.stdin.read()
    server.stop(None).wait()


if __name__ == "__main__":
    main()
