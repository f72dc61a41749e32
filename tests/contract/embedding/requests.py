"""Short ways to write requests and read answers with the generated stubs."""

import queue
from collections.abc import Iterable, Iterator

import grpc
import numpy as np
import numpy.typing as npt
import pytest
from google.rpc import code_pb2, error_details_pb2
from grpc_status import rpc_status

from vecserve.v1 import embedding_pb2 as pb
from vecserve.v1.embedding_pb2_grpc import EmbeddingServiceStub

MINILM = "all-MiniLM-L6-v2"
CLIP = "clip-vit-base-patch32"
RESNET = "resnet-50"
WHISPER = "whisper-base"
TIMEOUT_S = 120


def text(item_id: str, value: str = "a sentence") -> pb.Item:
    return pb.Item(item_id=item_id, text=value)


def image(item_id: str, data: bytes) -> pb.Item:
    return pb.Item(item_id=item_id, image=data)


def audio(item_id: str, data: bytes) -> pb.Item:
    return pb.Item(item_id=item_id, audio=data)


def result_of(
    stub: EmbeddingServiceStub, model: str, item: pb.Item, **options: object
) -> pb.ItemResult:
    """The answer to a unary request of one item."""
    (result,) = embed(stub, model, item, **options)
    return result


def embed(
    stub: EmbeddingServiceStub, model: str, *items: pb.Item, **options: object
) -> list[pb.ItemResult]:
    """Answers of one unary request."""
    request = pb.EmbedRequest(model=model, items=items, options=pb.EmbedOptions(**options))
    return list(stub.Embed(request, timeout=TIMEOUT_S).results)


def message(model: str, *items: pb.Item, **options: object) -> pb.EmbedStreamRequest:
    """One message of a stream."""
    return pb.EmbedStreamRequest(model=model, items=items, options=pb.EmbedOptions(**options))


def stream(
    stub: EmbeddingServiceStub, messages: Iterable[pb.EmbedStreamRequest]
) -> Iterator[pb.ItemResult]:
    """Results of one stream as they come."""
    for response in stub.EmbedStream(iter(messages), timeout=TIMEOUT_S):
        yield from response.results


class Sender:
    """Messages of a stream that the test sends when it wants."""

    def __init__(self) -> None:
        self._messages: queue.Queue[pb.EmbedStreamRequest | None] = queue.Queue()

    def send(self, message: pb.EmbedStreamRequest) -> None:
        self._messages.put(message)

    def close(self) -> None:
        self._messages.put(None)

    def __iter__(self) -> Iterator[pb.EmbedStreamRequest]:
        while (message := self._messages.get()) is not None:
            yield message


def vector(result: pb.ItemResult) -> npt.NDArray[np.float32]:
    """The one vector of a result; fails, saying why, if there is none."""
    assert result.WhichOneof("outcome") == "embedding", result.error.message
    (only,) = result.embedding.vectors
    return array(only)


def array(value: pb.Vector) -> npt.NDArray[np.float32]:
    dtype = {pb.DATA_TYPE_FLOAT32: "<f4", pb.DATA_TYPE_FLOAT16: "<f2"}[value.dtype]
    return np.frombuffer(value.data, dtype).reshape(value.shape)


def error(result: pb.ItemResult) -> tuple[str, str, str]:
    """(code, reason, message) of a result that is an error."""
    assert result.WhichOneof("outcome") == "error", "the item has vectors"
    return _read(result.error)


def refused(stub: EmbeddingServiceStub, request: pb.EmbedRequest) -> tuple[str, str, str]:
    """(code, reason, message) of a unary request that must fail as a whole."""
    with pytest.raises(grpc.RpcError) as failure:
        stub.Embed(request, timeout=TIMEOUT_S)
    return rpc_error(failure.value)


def rpc_error(failure: grpc.RpcError) -> tuple[str, str, str]:
    """(code, reason, message) of an RPC that failed as a whole."""
    status = rpc_status.from_call(failure)
    assert status is not None, f"no google.rpc.Status: {failure}"
    return _read(status)


def _read(status: object) -> tuple[str, str, str]:
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.domain == "vecserve"
    return code_pb2.Code.Name(status.code), info.reason, status.message
