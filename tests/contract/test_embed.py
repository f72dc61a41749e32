"""Embed: what the unary call must do."""

import grpc
import numpy as np
import pytest
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tests.contract.requests import (
    CLIP,
    MINILM,
    embed,
    error,
    image,
    message,
    rpc_error,
    stream,
    text,
    vector,
)
from tests.server_process import ServerProcess
from vecserve.v1 import embedding_pb2 as pb
from vecserve.v1 import model_pb2
from vecserve.v1.embedding_pb2_grpc import EmbeddingServiceStub


def test_results_come_in_the_order_of_the_items(stub: EmbeddingServiceStub) -> None:
    items = [text(f"id-{n}", "word " * (40 - n)) for n in range(40)]
    results = embed(stub, MINILM, *items)
    assert [result.item_id for result in results] == [item.item_id for item in items]
    assert all(vector(result).shape == (384,) for result in results)
    assert {result.version for result in results} == {"1"}


def test_the_default_is_the_models_own_way(stub: EmbeddingServiceStub) -> None:
    (default,) = embed(stub, MINILM, text("a"))
    (raw,) = embed(stub, MINILM, text("a"), normalize=False)
    (unit,) = embed(stub, MINILM, text("a"), normalize=True)
    assert np.linalg.norm(vector(default)) == pytest.approx(1, abs=1e-6)
    assert np.array_equal(vector(default), vector(unit))
    length = np.linalg.norm(vector(raw))
    assert length > 1.5
    assert np.allclose(vector(raw) / length, vector(unit), atol=1e-6)


def test_half_precision_is_the_rounded_vector(stub: EmbeddingServiceStub) -> None:
    (full,) = embed(stub, MINILM, text("a"))
    (half,) = embed(stub, MINILM, text("a"), output_dtype=pb.DATA_TYPE_FLOAT16)
    assert half.embedding.vectors[0].dtype == pb.DATA_TYPE_FLOAT16
    assert np.allclose(vector(half), vector(full), atol=1e-3)


def test_without_pooling_every_token_has_a_vector(stub: EmbeddingServiceStub) -> None:
    short, long = embed(
        stub,
        MINILM,
        text("short", "one two"),
        text("long", "one two three four"),
        pooling=model_pb2.POOLING_NONE,
    )
    assert vector(short).shape == (4, 384)  # [CLS] one two [SEP]: no padding
    assert vector(long).shape == (6, 384)
    assert (short.embedding.token_count, long.embedding.token_count) == (4, 6)


def test_timings_and_batch_size_are_reported(stub: EmbeddingServiceStub) -> None:
    (result,) = embed(stub, MINILM, text("a"))
    assert result.timings.batch_size == 1
    for part in (result.timings.prepare, result.timings.queue, result.timings.compute):
        assert part.ToNanoseconds() > 0


def test_truncation(stub: EmbeddingServiceStub) -> None:
    long = text("long", "word " * 100_000)
    (cut,) = embed(stub, MINILM, long)
    assert cut.embedding.truncated
    assert cut.embedding.token_count == 256
    (same,) = embed(stub, MINILM, text("short", "word " * 254))
    assert not same.embedding.truncated
    assert np.allclose(vector(cut), vector(same), atol=1e-6)
    (refused,) = embed(stub, MINILM, long, truncation=pb.TRUNCATION_REFUSE)
    code, reason, sentence = error(refused)
    assert (code, reason) == ("INVALID_ARGUMENT", "TEXT_TOO_LONG")
    assert "100002" in sentence
    assert "256" in sentence


def test_one_bad_item_costs_its_neighbours_nothing(stub: EmbeddingServiceStub) -> None:
    good, bad, empty = embed(stub, CLIP, text("g"), image("b", b"no image"), pb.Item(item_id="e"))
    assert vector(good).shape == (512,)
    assert error(bad)[0] == "INVALID_ARGUMENT"
    assert error(empty)[:2] == ("INVALID_ARGUMENT", "NO_CONTENT")


@pytest.mark.parametrize(
    ("request_", "code", "reason", "says"),
    [
        (pb.EmbedRequest(model=MINILM), "INVALID_ARGUMENT", "NO_ITEMS", "at least one"),
        (pb.EmbedRequest(items=[text("a")]), "NOT_FOUND", "MODEL_NOT_FOUND", "names no model"),
        (
            pb.EmbedRequest(model="gpt", items=[text("a")]),
            "NOT_FOUND",
            "MODEL_NOT_FOUND",
            "this server has: all-MiniLM-L6-v2",
        ),
        (
            pb.EmbedRequest(model=MINILM, version="7", items=[text("a")]),
            "NOT_FOUND",
            "VERSION_NOT_FOUND",
            "it has: 1",
        ),
        (
            pb.EmbedRequest(model=MINILM, items=[text("a"), text("b"), text("a")]),
            "INVALID_ARGUMENT",
            "DUPLICATE_ITEM_ID",
            "'a'",
        ),
    ],
)
def test_requests_that_fail_as_a_whole(
    stub: EmbeddingServiceStub, request_: pb.EmbedRequest, code: str, reason: str, says: str
) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        stub.Embed(request_)
    got_code, got_reason, sentence = rpc_error(failure.value)
    assert (got_code, got_reason) == (code, reason)
    assert says in sentence


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"pooling": 99}, "UNKNOWN_VALUE"),
        ({"truncation": 99}, "UNKNOWN_VALUE"),
        ({"output_dtype": 99}, "UNKNOWN_VALUE"),
        ({"windows": 99}, "UNKNOWN_VALUE"),
        ({"priority": 99}, "UNKNOWN_VALUE"),
        ({"timeout": duration_pb2.Duration()}, "TIMEOUT_INVALID"),
        ({"timeout": duration_pb2.Duration(seconds=-5)}, "TIMEOUT_INVALID"),
    ],
)
def test_options_that_mean_nothing(stub: EmbeddingServiceStub, options: dict, reason: str) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        embed(stub, MINILM, text("a"), **options)
    assert rpc_error(failure.value)[:2] == ("INVALID_ARGUMENT", reason)
    # A stream goes on.
    (result,) = stream(stub, [message(MINILM, text("a"), **options)])
    assert error(result)[:2] == ("INVALID_ARGUMENT", reason)


def test_an_option_the_model_does_not_offer(stub: EmbeddingServiceStub) -> None:
    (result,) = embed(stub, MINILM, text("a"), pooling=model_pb2.POOLING_CLS)
    code, reason, sentence = error(result)
    assert (code, reason) == ("INVALID_ARGUMENT", "POOLING_NOT_OFFERED")
    assert "mean, none" in sentence


def test_an_item_id_has_a_limit(stub: EmbeddingServiceStub) -> None:
    fits, too_long = embed(stub, MINILM, text("x" * 256), text("y" * 257))
    assert vector(fits).shape == (384,)
    assert error(too_long)[:2] == ("INVALID_ARGUMENT", "ITEM_ID_TOO_LONG")


def test_wrong_modality(stub: EmbeddingServiceStub) -> None:
    (result,) = embed(stub, MINILM, image("a", b"..."))
    code, reason, sentence = error(result)
    assert (code, reason) == ("INVALID_ARGUMENT", "WRONG_MODALITY")
    assert sentence == "model 'all-MiniLM-L6-v2' takes text, not image"


@pytest.mark.parametrize("method", ["Embed", "EmbedStream", "ListModels", "GetModel"])
def test_malformed_protobuf(channel: grpc.Channel, method: str) -> None:
    path = f"/vecserve.v1.EmbeddingService/{method}"
    garbage = b"\xff\xff\xff\xff garbage"
    with pytest.raises(grpc.RpcError) as failure:
        if method == "EmbedStream":
            list(channel.stream_stream(path)(iter([garbage])))
        else:
            channel.unary_unary(path)(garbage)
    assert rpc_error(failure.value)[:2] == ("INVALID_ARGUMENT", "MALFORMED_MESSAGE")


def test_a_full_queue_refuses_and_says_when_to_come_back(
    repository_of, images: list[bytes]
) -> None:
    # One MiB of waiting images of 150,528 bytes each: 6 places.
    with (
        ServerProcess(repository_of("resnet-50"), "--max-queue-mb", "1") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = EmbeddingServiceStub(channel)

        def request(count: int) -> pb.EmbedRequest:
            items = [image(str(n), images[0]) for n in range(count)]
            return pb.EmbedRequest(model="resnet-50", items=items)

        calls = [stub.Embed.future(request(6)) for _ in range(8)]
        refused = []
        for call in calls:
            try:
                assert len([vector(result) for result in call.result().results]) == 6
            except grpc.RpcError as failure:
                refused.append(failure)
        assert 1 <= len(refused) < 8
        assert rpc_error(refused[0])[:2] == ("RESOURCE_EXHAUSTED", "QUEUE_FULL")
        retry = error_details_pb2.RetryInfo()
        assert rpc_status.from_call(refused[0]).details[1].Unpack(retry)
        with pytest.raises(grpc.RpcError) as failure:
            stub.Embed(request(7))
        assert rpc_error(failure.value)[:2] == ("INVALID_ARGUMENT", "TOO_MANY_ITEMS")
