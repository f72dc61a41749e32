"""Rules of Embed: one request, its items answered together."""

import grpc
import pytest

from tests.contract.embedding.requests import (
    CLIP,
    MINILM,
    TIMEOUT_S,
    embed,
    error,
    image,
    refused,
    result_of,
    rpc_error,
    text,
    vector,
)
from vecserve.v1 import embedding_pb2 as pb
from vecserve.v1.embedding_pb2_grpc import EmbeddingServiceStub


def test_results_come_in_the_order_of_the_items(stub: EmbeddingServiceStub) -> None:
    items = [text(f"id-{n}", "word " * (40 - n)) for n in range(40)]
    results = embed(stub, MINILM, *items)
    assert [result.item_id for result in results] == [item.item_id for item in items]


def test_a_vector_has_the_models_dimensions(
    stub: EmbeddingServiceStub, images: list[bytes]
) -> None:
    sentence, photo = embed(stub, CLIP, text("sentence"), image("photo", images[0]))
    assert vector(sentence).shape == vector(photo).shape == (512,)


def test_one_item_may_leave_its_id_empty(stub: EmbeddingServiceStub) -> None:
    named, unnamed = embed(stub, MINILM, text("named"), text(""))
    assert (named.item_id, unnamed.item_id) == ("named", "")
    assert vector(unnamed).shape == (384,)


def test_an_item_id_has_at_most_256_bytes(stub: EmbeddingServiceStub) -> None:
    fits, too_long, too_many_bytes = embed(
        stub, MINILM, text("x" * 256), text("y" * 257), text("ü" * 129)
    )
    assert vector(fits).shape == (384,)
    assert error(too_long)[:2] == ("INVALID_ARGUMENT", "ITEM_ID_TOO_LONG")
    assert error(too_many_bytes)[:2] == ("INVALID_ARGUMENT", "ITEM_ID_TOO_LONG")
    assert too_long.item_id.startswith("y" * 250)
    assert len(too_long.item_id) <= 256


@pytest.mark.parametrize("character", ["x", "ü", "%"])
def test_what_is_wrong_is_quoted_in_part(stub: EmbeddingServiceStub, character: str) -> None:
    """The status of a call travels as metadata, of which clients take 8 KiB."""
    long = character * 1_000_000
    code, reason, sentence = refused(stub, pb.EmbedRequest(model=long, items=[text("a")]))
    assert (code, reason) == ("NOT_FOUND", "MODEL_NOT_FOUND")
    assert MINILM in sentence
    request = pb.EmbedRequest(model=MINILM, version=long, items=[text("a")])
    code, reason, sentence = refused(stub, request)
    assert (code, reason) == ("NOT_FOUND", "VERSION_NOT_FOUND")
    twice = pb.EmbedRequest(model=MINILM, items=[text(long), text(long)])
    assert refused(stub, twice)[:2] == ("INVALID_ARGUMENT", "DUPLICATE_ITEM_ID")
    (result,) = embed(stub, MINILM, text("a"), input_type=long)
    assert error(result)[1] == "PROMPT_NOT_OFFERED"
    assert len(error(result)[2]) < 1000


def test_a_version_of_very_many_digits(stub: EmbeddingServiceStub) -> None:
    request = pb.EmbedRequest(model=MINILM, version="1" * 5000, items=[text("a")])
    assert refused(stub, request)[:2] == ("NOT_FOUND", "VERSION_NOT_FOUND")


def test_one_bad_item_costs_its_neighbours_nothing(stub: EmbeddingServiceStub) -> None:
    before, bad, after = embed(stub, CLIP, text("before"), image("bad", b"none"), text("after"))
    assert error(bad)[0] == "INVALID_ARGUMENT"
    assert vector(before).shape == vector(after).shape == (512,)


def test_a_result_names_the_version_that_answered(stub: EmbeddingServiceStub) -> None:
    assert result_of(stub, MINILM, text("a")).version == "1"


def test_a_version_may_be_named(stub: EmbeddingServiceStub) -> None:
    request = pb.EmbedRequest(model=MINILM, version="1", items=[text("a")])
    (result,) = stub.Embed(request, timeout=TIMEOUT_S).results
    assert vector(result).shape == (384,)


def test_timings_say_where_an_items_time_went(stub: EmbeddingServiceStub) -> None:
    timings = result_of(stub, MINILM, text("a")).timings
    for part in (timings.prepare, timings.queue, timings.compute):
        assert part.ToNanoseconds() > 0


def test_a_computed_item_says_how_many_shared_its_batch(stub: EmbeddingServiceStub) -> None:
    assert result_of(stub, MINILM, text("a")).timings.batch_size >= 1


def test_a_request_without_items_is_refused(stub: EmbeddingServiceStub) -> None:
    code, reason, _ = refused(stub, pb.EmbedRequest(model=MINILM))
    assert (code, reason) == ("INVALID_ARGUMENT", "NO_ITEMS")


def test_a_request_without_a_model_is_refused(stub: EmbeddingServiceStub) -> None:
    code, reason, _ = refused(stub, pb.EmbedRequest(items=[text("a")]))
    assert (code, reason) == ("NOT_FOUND", "MODEL_NOT_FOUND")


def test_an_unknown_model_is_refused_with_the_names_of_those_there_are(
    stub: EmbeddingServiceStub,
) -> None:
    code, reason, sentence = refused(stub, pb.EmbedRequest(model="gpt", items=[text("a")]))
    assert (code, reason) == ("NOT_FOUND", "MODEL_NOT_FOUND")
    assert MINILM in sentence
    assert CLIP in sentence


@pytest.mark.parametrize("version", ["7", "latest"])
def test_an_unknown_version_is_refused(stub: EmbeddingServiceStub, version: str) -> None:
    request = pb.EmbedRequest(model=MINILM, version=version, items=[text("a")])
    assert refused(stub, request)[:2] == ("NOT_FOUND", "VERSION_NOT_FOUND")


def test_two_items_of_one_id_are_refused(stub: EmbeddingServiceStub) -> None:
    request = pb.EmbedRequest(model=MINILM, items=[text("a"), text("b"), text("a")])
    code, reason, sentence = refused(stub, request)
    assert (code, reason) == ("INVALID_ARGUMENT", "DUPLICATE_ITEM_ID")
    assert "'a'" in sentence


@pytest.mark.parametrize("method", ["Embed", "ListModels", "GetModel"])
def test_a_request_that_is_no_protobuf_is_refused(channel: grpc.Channel, method: str) -> None:
    call = channel.unary_unary(f"/vecserve.v1.EmbeddingService/{method}")
    with pytest.raises(grpc.RpcError) as failure:
        call(b"\xff\xff\xff\xff garbage", timeout=TIMEOUT_S)
    assert rpc_error(failure.value)[:2] == ("INVALID_ARGUMENT", "MALFORMED_MESSAGE")
