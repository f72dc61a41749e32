"""Rules of EmbedOptions: what is asked for is done, or refused with a reason."""

import grpc
import numpy as np
import pytest
from google.protobuf import duration_pb2

from tests.contract.embedding.requests import (
    MINILM,
    WHISPER,
    audio,
    embed,
    error,
    message,
    result_of,
    rpc_error,
    stream,
    text,
    vector,
)
from vecserve.v1 import embedding_pb2 as pb
from vecserve.v1 import model_pb2
from vecserve.v1.embedding_pb2_grpc import EmbeddingServiceStub

LONG = text("long", "word " * 100_000)
MEANINGLESS = [
    ({"pooling": 99}, "UNKNOWN_VALUE"),
    ({"truncation": 99}, "UNKNOWN_VALUE"),
    ({"output_dtype": 99}, "UNKNOWN_VALUE"),
    ({"windows": 99}, "UNKNOWN_VALUE"),
    ({"priority": 99}, "UNKNOWN_VALUE"),
    ({"timeout": duration_pb2.Duration()}, "TIMEOUT_INVALID"),
    ({"timeout": duration_pb2.Duration(seconds=-5)}, "TIMEOUT_INVALID"),
]


def test_normalize_makes_vectors_of_unit_length(stub: EmbeddingServiceStub) -> None:
    unit = vector(result_of(stub, MINILM, text("a"), normalize=True))
    assert np.linalg.norm(unit) == pytest.approx(1, abs=1e-6)


def test_normalize_false_keeps_a_vectors_length(stub: EmbeddingServiceStub) -> None:
    unit = vector(result_of(stub, MINILM, text("a"), normalize=True))
    raw = vector(result_of(stub, MINILM, text("a"), normalize=False))
    length = np.linalg.norm(raw)
    assert length > 1.5
    assert np.allclose(raw / length, unit, atol=1e-6)


def test_without_options_a_vector_is_made_in_the_models_own_way(
    stub: EmbeddingServiceStub,
) -> None:
    # MiniLM's own way: the mean over the tokens, of unit length.
    default = vector(result_of(stub, MINILM, text("a")))
    asked = result_of(stub, MINILM, text("a"), normalize=True, pooling=model_pb2.POOLING_MEAN)
    assert np.allclose(default, vector(asked), atol=1e-6)


def test_vectors_are_float32_unless_asked_otherwise(stub: EmbeddingServiceStub) -> None:
    (value,) = result_of(stub, MINILM, text("a")).embedding.vectors
    assert value.dtype == pb.DATA_TYPE_FLOAT32
    assert len(value.data) == 4 * 384


def test_float16_is_the_rounded_vector(stub: EmbeddingServiceStub) -> None:
    full = vector(result_of(stub, MINILM, text("a")))
    half = vector(result_of(stub, MINILM, text("a"), output_dtype=pb.DATA_TYPE_FLOAT16))
    assert half.dtype == np.float16
    assert np.allclose(half, full, atol=1e-3)


def test_without_pooling_every_token_has_a_vector_and_padding_has_none(
    stub: EmbeddingServiceStub,
) -> None:
    items = (text("short", "one two"), text("long", "one two three four"))
    short, long = embed(stub, MINILM, *items, pooling=model_pb2.POOLING_NONE)
    assert vector(short).shape == (4, 384)  # [CLS] one two [SEP]
    assert vector(long).shape == (6, 384)


def test_a_pooling_the_model_does_not_offer_is_refused(stub: EmbeddingServiceStub) -> None:
    result = result_of(stub, MINILM, text("a"), pooling=model_pb2.POOLING_CLS)
    assert error(result)[:2] == ("INVALID_ARGUMENT", "POOLING_NOT_OFFERED")


def test_tokens_are_counted_with_the_special_ones(stub: EmbeddingServiceStub) -> None:
    result = result_of(stub, MINILM, text("a", "one two"))
    assert result.embedding.token_count == 4
    assert not result.embedding.truncated


def test_a_text_that_is_too_long_is_cut_and_says_so(stub: EmbeddingServiceStub) -> None:
    cut = result_of(stub, MINILM, LONG)
    assert cut.embedding.truncated
    assert cut.embedding.token_count == 256
    fits = result_of(stub, MINILM, text("fits", "word " * 254))
    assert not fits.embedding.truncated
    assert np.allclose(vector(cut), vector(fits), atol=1e-6)


def test_truncation_refuse_answers_with_the_length_and_the_limit(
    stub: EmbeddingServiceStub,
) -> None:
    refused = result_of(stub, MINILM, LONG, truncation=pb.TRUNCATION_REFUSE)
    code, reason, sentence = error(refused)
    assert (code, reason) == ("INVALID_ARGUMENT", "TEXT_TOO_LONG")
    assert "100002" in sentence
    assert "256" in sentence


def test_an_item_that_cannot_be_in_time_is_answered_so(
    stub: EmbeddingServiceStub, speech: list[bytes]
) -> None:
    too_soon = duration_pb2.Duration(nanos=1_000_000)
    late = result_of(stub, WHISPER, audio("late", speech[0]), timeout=too_soon)
    assert error(late)[:2] == ("DEADLINE_EXCEEDED", "DEADLINE_MISSED")


def test_an_item_with_time_enough_is_computed(
    stub: EmbeddingServiceStub, speech: list[bytes]
) -> None:
    enough = duration_pb2.Duration(seconds=60)
    in_time = result_of(stub, WHISPER, audio("in-time", speech[0]), timeout=enough)
    assert vector(in_time).shape == (512,)


@pytest.mark.parametrize(("options", "reason"), MEANINGLESS)
def test_an_option_that_means_nothing_fails_a_request(
    stub: EmbeddingServiceStub, options: dict[str, object], reason: str
) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        embed(stub, MINILM, text("a"), **options)
    assert rpc_error(failure.value)[:2] == ("INVALID_ARGUMENT", reason)


@pytest.mark.parametrize(("options", "reason"), MEANINGLESS)
def test_an_option_that_means_nothing_fails_its_items_and_the_stream_goes_on(
    stub: EmbeddingServiceStub, options: dict[str, object], reason: str
) -> None:
    messages = [message(MINILM, text("bad"), **options), message(MINILM, text("good"))]
    results = {result.item_id: result for result in stream(stub, messages)}
    assert error(results["bad"])[:2] == ("INVALID_ARGUMENT", reason)
    assert vector(results["good"]).shape == (384,)
