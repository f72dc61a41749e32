"""Rules of EmbedStream: items in as they come, results out as they are ready."""

from collections import Counter
from collections.abc import Iterator

import grpc
import numpy as np
import pytest

from tests.contract.embedding.requests import (
    CLIP,
    MINILM,
    RESNET,
    TIMEOUT_S,
    WHISPER,
    Sender,
    array,
    audio,
    embed,
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


def test_each_of_a_thousand_mixed_items_is_answered_once(
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
    answers = Counter(result.item_id.split("-")[1] for result in results)
    assert answers == Counter(map(str, range(1000)))
    for result in results:
        if result.item_id.startswith("good"):
            assert np.isfinite(vector(result)).all()
        else:
            assert error(result)[0] in ("INVALID_ARGUMENT", "NOT_FOUND")


def test_a_result_has_the_vector_of_the_item_it_names(stub: EmbeddingServiceStub) -> None:
    items = [text(str(n), f"sentence number {n}") for n in range(20)]
    expected = {result.item_id: vector(result) for result in embed(stub, MINILM, *items)}
    for result in stream(stub, [message(MINILM, item) for item in items]):
        assert np.abs(vector(result) - expected[result.item_id]).max() <= 1e-5


def test_results_come_while_the_stream_is_open(stub: EmbeddingServiceStub) -> None:
    sender = Sender()
    responses = stub.EmbedStream(iter(sender), timeout=TIMEOUT_S)
    for n in range(3):
        sender.send(message(MINILM, text(str(n))))
        (result,) = next(responses).results
        assert result.item_id == str(n)
    sender.close()
    assert list(responses) == []


def test_a_stream_may_carry_several_models(
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


def test_a_fast_item_overtakes_a_slow_one(stub: EmbeddingServiceStub, speech: list[bytes]) -> None:
    messages = [message(WHISPER, audio("slow", speech[0])), message(MINILM, text("fast"))]
    assert [result.item_id for result in stream(stub, messages)] == ["fast", "slow"]


def test_an_ordered_stream_keeps_the_order_of_its_items(
    stub: EmbeddingServiceStub, speech: list[bytes]
) -> None:
    messages = [message(WHISPER, audio("slow", speech[0])), message(MINILM, text("fast"))]
    messages[0].ordered = True
    assert [result.item_id for result in stream(stub, messages)] == ["slow", "fast"]


def test_ordered_is_read_from_the_first_message_only(
    stub: EmbeddingServiceStub, speech: list[bytes]
) -> None:
    messages = [
        message(MINILM, text("first")),
        message(WHISPER, audio("slow", speech[0])),
        message(MINILM, text("fast")),
    ]
    messages[1].ordered = messages[2].ordered = True
    *quick, last = (result.item_id for result in stream(stub, messages))
    assert last == "slow"
    assert sorted(quick) == ["fast", "first"], "on a core each, either may be the first"


def test_a_second_item_of_an_unanswered_id_is_refused_and_the_first_answered(
    stub: EmbeddingServiceStub, speech: list[bytes]
) -> None:
    slow = audio("same", speech[0])
    refused, answered = stream(stub, [message(WHISPER, slow, slow)])
    assert refused.item_id == answered.item_id == "same"
    assert error(refused)[:2] == ("ALREADY_EXISTS", "DUPLICATE_ITEM_ID")
    assert vector(answered).shape == (512,)


def test_an_id_may_return_once_it_is_answered(stub: EmbeddingServiceStub) -> None:
    sender = Sender()
    responses = stub.EmbedStream(iter(sender), timeout=TIMEOUT_S)
    for _ in range(2):
        sender.send(message(MINILM, text("same")))
        (result,) = next(responses).results
        assert vector(result).shape == (384,)
    sender.close()


def test_a_stream_without_messages_ends_well(stub: EmbeddingServiceStub) -> None:
    assert list(stream(stub, [])) == []


def test_a_message_without_items_does_nothing(stub: EmbeddingServiceStub) -> None:
    (result,) = stream(stub, [pb.EmbedStreamRequest(), message(MINILM, text("a"))])
    assert result.item_id == "a"


def test_an_unknown_model_fails_its_items_and_the_stream_goes_on(
    stub: EmbeddingServiceStub,
) -> None:
    messages = [message("gpt", text("bad")), message(MINILM, text("good"))]
    results = {result.item_id: result for result in stream(stub, messages)}
    assert error(results["bad"])[:2] == ("NOT_FOUND", "MODEL_NOT_FOUND")
    assert results["bad"].version == ""
    assert vector(results["good"]).shape == (384,)


def test_a_message_that_is_no_protobuf_ends_the_stream_after_the_answers(
    channel: grpc.Channel,
) -> None:
    call = channel.stream_stream(
        "/vecserve.v1.EmbeddingService/EmbedStream",
        response_deserializer=pb.EmbedStreamResponse.FromString,
    )
    sent = [message(MINILM, *(text(str(n)) for n in range(50))).SerializeToString(), b"\xff"]
    answered = []
    with pytest.raises(grpc.RpcError) as failure:
        for response in call(iter(sent), timeout=TIMEOUT_S):
            answered += [result.item_id for result in response.results]
    assert rpc_error(failure.value)[:2] == ("INVALID_ARGUMENT", "MALFORMED_MESSAGE")
    assert sorted(answered, key=int) == [str(n) for n in range(50)]


def test_a_text_that_is_no_utf8_ends_the_stream_after_the_answers(channel: grpc.Channel) -> None:
    call = channel.stream_stream(
        "/vecserve.v1.EmbeddingService/EmbedStream",
        response_deserializer=pb.EmbedStreamResponse.FromString,
    )
    good = message(MINILM, text("good")).SerializeToString()
    bad = message(MINILM, text("bad")).SerializeToString()
    # As protobuf's C++ sends it: item_id, too, is "bad", and goes first.
    bad = bad[::-1].replace(b"dab", b"\xffab", 1)[::-1]
    answered = []
    with pytest.raises(grpc.RpcError) as failure:
        for response in call(iter([good, bad]), timeout=TIMEOUT_S):
            answered += [result.item_id for result in response.results]
    assert rpc_error(failure.value)[:2] == ("INVALID_ARGUMENT", "MALFORMED_MESSAGE")
    assert answered == ["good"]


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


def test_a_result_too_large_for_a_message_continues_in_the_next(
    stub: EmbeddingServiceStub, long_speech: bytes
) -> None:
    # Three sequences of 1500 x 512 floats, 3 MB each; the stub has gRPC's
    # default limit of 4 MiB.
    parts = list(
        stream(stub, [message(WHISPER, audio("long", long_speech), pooling=model_pb2.POOLING_NONE)])
    )
    assert [part.continues for part in parts] == [True, True, False]
    assert {part.item_id for part in parts} == {"long"}
    values = [value for part in parts for value in part.embedding.vectors]
    assert [array(value).shape for value in values] == [(1500, 512)] * 3
    assert [value.span.start.seconds for value in values] == [0, 30, 60]
