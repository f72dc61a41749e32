"""EmbedStream: what the bidirectional call must do."""

import queue
from collections import Counter
from collections.abc import Iterator

import grpc
import numpy as np
import pytest

from tests.contract.requests import (
    CLIP,
    MINILM,
    RESNET,
    WHISPER,
    array,
    audio,
    error,
    image,
    message,
    rpc_error,
    stream,
    text,
    vector,
)
from vecserve.v1 import embedding_pb2 as pb
from vecserve.v1 import model_pb2
from vecserve.v1.embedding_pb2_grpc import EmbeddingServiceStub


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


def test_a_thousand_mixed_items_are_each_answered_once(
    stub: EmbeddingServiceStub, images: list[bytes]
) -> None:
    def messages() -> Iterator[pb.EmbedStreamRequest]:
        for n in range(1000):
            match n % 10:
                case 0:
                    yield message(RESNET, image(f"bad-{n}", images[0][:500]))
                case 1:
                    yield message("no-such-model", text(f"bad-{n}"))
                case 2:
                    yield message(MINILM, pb.Item(item_id=f"bad-{n}"))
                case 3:
                    yield message(WHISPER, audio(f"bad-{n}", b"RIFF but no audio"))
                case 4 if n % 100 == 4:
                    yield message(RESNET, image(f"good-{n}", images[n % len(images)]))
                case _:
                    yield message(MINILM, text(f"good-{n}", f"sentence number {n} " * (n % 7)))

    results = list(stream(stub, messages()))
    assert Counter(result.item_id.split("-")[1] for result in results) == Counter(
        map(str, range(1000))
    )
    for result in results:
        if result.item_id.startswith("good"):
            assert np.isfinite(vector(result)).all()
        else:
            code, _, sentence = error(result)
            assert code in ("INVALID_ARGUMENT", "NOT_FOUND")
            assert len(sentence.split()) > 4


def test_results_come_while_the_stream_is_open(stub: EmbeddingServiceStub) -> None:
    sender = Sender()
    responses = stub.EmbedStream(iter(sender))
    for n in range(3):
        sender.send(message(MINILM, text(str(n))))
        (result,) = next(responses).results
        assert result.item_id == str(n)
    sender.close()
    assert list(responses) == []


def test_one_stream_may_carry_several_models(
    stub: EmbeddingServiceStub, images: list[bytes], speech: list[bytes]
) -> None:
    results = stream(
        stub,
        [
            message(MINILM, text("t")),
            message(CLIP, image("i", images[0]), text("c")),
            message(RESNET, image("r", images[0])),
            message(WHISPER, audio("a", speech[0])),
        ],
    )
    shapes = {result.item_id: vector(result).shape for result in results}
    assert shapes == {"t": (384,), "i": (512,), "c": (512,), "r": (2048,), "a": (512,)}


def test_a_fast_item_overtakes_a_slow_one_unless_ordered(
    stub: EmbeddingServiceStub, speech: list[bytes]
) -> None:
    messages = [message(WHISPER, audio("slow", speech[0])), message(MINILM, text("fast"))]
    assert [result.item_id for result in stream(stub, messages)] == ["fast", "slow"]
    messages[0].ordered = True
    assert [result.item_id for result in stream(stub, messages)] == ["slow", "fast"]


def test_a_duplicate_of_an_unanswered_item_is_refused_in_band(
    stub: EmbeddingServiceStub, speech: list[bytes]
) -> None:
    slow = audio("same", speech[0])
    refused, answered, again = stream(
        stub, [message(WHISPER, slow, slow), message(MINILM, text("other"))]
    )
    by_outcome = {result.item_id: result for result in (answered, again)}
    assert error(refused)[:2] == ("ALREADY_EXISTS", "DUPLICATE_ITEM_ID")
    assert vector(by_outcome["same"]).shape == (512,)
    assert vector(by_outcome["other"]).shape == (384,)


def test_an_id_may_return_once_it_is_answered(stub: EmbeddingServiceStub) -> None:
    sender = Sender()
    responses = stub.EmbedStream(iter(sender))
    for _ in range(2):
        sender.send(message(MINILM, text("same")))
        (result,) = next(responses).results
        assert vector(result).shape == (384,)
    sender.close()


def test_a_message_without_items_does_nothing(stub: EmbeddingServiceStub) -> None:
    assert list(stream(stub, [])) == []
    (result,) = stream(stub, [pb.EmbedStreamRequest(), message(MINILM, text("a"))])
    assert result.item_id == "a"


def test_a_malformed_message_ends_the_stream_after_the_answers(channel: grpc.Channel) -> None:
    call = channel.stream_stream(
        "/vecserve.v1.EmbeddingService/EmbedStream",
        response_deserializer=pb.EmbedStreamResponse.FromString,
    )
    sent = [message(MINILM, *(text(str(n)) for n in range(50))).SerializeToString(), b"\xff"]
    answered = []
    with pytest.raises(grpc.RpcError) as failure:
        for response in call(iter(sent)):
            answered += [result.item_id for result in response.results]
    assert rpc_error(failure.value)[:2] == ("INVALID_ARGUMENT", "MALFORMED_MESSAGE")
    assert sorted(answered, key=int) == [str(n) for n in range(50)]


def test_a_client_that_leaves_costs_the_others_nothing(
    stub: EmbeddingServiceStub, speech: list[bytes]
) -> None:
    for _ in range(3):
        leaving = stub.EmbedStream(
            iter([message(WHISPER, *(audio(str(n), speech[0]) for n in range(20)))])
        )
        next(leaving)
        leaving.cancel()
    (result,) = stream(stub, [message(WHISPER, audio("stays", speech[0]))])
    assert vector(result).shape == (512,)


def test_a_long_audio_gets_its_windows_or_one_vector(
    stub: EmbeddingServiceStub, long_speech: bytes
) -> None:
    item = audio("long", long_speech)  # 70 s
    (each,) = stream(stub, [message(WHISPER, item, windows=pb.WINDOWS_EACH)])
    spans = [
        (value.span.start.ToTimedelta().total_seconds(), value.span.end.ToTimedelta())
        for value in each.embedding.vectors
    ]
    assert [(start, end.total_seconds()) for start, end in spans] == [(0, 30), (30, 60), (60, 70)]
    windows = [array(value) for value in each.embedding.vectors]
    (pooled,) = stream(stub, [message(WHISPER, item)])
    assert np.allclose(
        vector(pooled), np.average(windows, axis=0, weights=[1500, 1500, 500]), atol=1e-4
    )
    (refused,) = stream(
        stub,
        [message(WHISPER, item, windows=pb.WINDOWS_POOLED, pooling=model_pb2.POOLING_NONE)],
    )
    assert error(refused)[:2] == ("INVALID_ARGUMENT", "WINDOWS_NOT_POOLED")


def test_results_too_large_for_a_message_continue_in_the_next(
    stub: EmbeddingServiceStub, long_speech: bytes
) -> None:
    # Three sequences of 1500 x 512 floats, 3 MB each; the stub has gRPC's
    # default limit of 4 MiB.
    parts = list(
        stream(stub, [message(WHISPER, audio("long", long_speech), pooling=model_pb2.POOLING_NONE)])
    )
    assert [part.continues for part in parts] == [True, True, False]
    shapes = [array(value).shape for part in parts for value in part.embedding.vectors]
    assert shapes == [(1500, 512)] * 3
    starts = [value.span.start.seconds for part in parts for value in part.embedding.vectors]
    assert starts == [0, 30, 60]
