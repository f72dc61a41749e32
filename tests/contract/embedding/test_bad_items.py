"""Rules of items that cannot be embedded: a status that a person can act on."""

import pytest

from tests.contract.embedding.requests import (
    CLIP,
    MINILM,
    RESNET,
    error,
    image,
    result_of,
    text,
    vector,
)
from vecserve.v1 import embedding_pb2 as pb
from vecserve.v1.embedding_pb2_grpc import EmbeddingServiceStub


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"This is a text file that somebody named photo.jpg",
        b"\x89PNG\r\n\x1a\n" + b"\0" * 50,
        b"%PDF-1.7 and so on",
    ],
)
def test_an_image_that_is_none_is_refused(stub: EmbeddingServiceStub, data: bytes) -> None:
    assert error(result_of(stub, RESNET, image("a", data)))[0] == "INVALID_ARGUMENT"


def test_the_refusal_of_a_file_of_another_kind_names_what_is_read(
    stub: EmbeddingServiceStub,
) -> None:
    _, _, sentence = error(result_of(stub, RESNET, image("a", b"%PDF-1.7 and so on")))
    assert "JPEG" in sentence
    assert "PNG" in sentence


def test_a_truncated_image_is_refused(stub: EmbeddingServiceStub, images: list[bytes]) -> None:
    cut = result_of(stub, CLIP, image("cut", images[0][:-2000]))
    assert error(cut)[:2] == ("INVALID_ARGUMENT", "IMAGE_TRUNCATED")


def test_an_empty_text_is_a_text(stub: EmbeddingServiceStub) -> None:
    assert vector(result_of(stub, MINILM, text("a", ""))).shape == (384,)


def test_an_item_without_content_is_refused(stub: EmbeddingServiceStub) -> None:
    result = result_of(stub, MINILM, pb.Item(item_id="a"))
    assert error(result)[:2] == ("INVALID_ARGUMENT", "NO_CONTENT")


def test_an_item_of_another_modality_is_refused(stub: EmbeddingServiceStub) -> None:
    code, reason, sentence = error(result_of(stub, MINILM, image("a", b"...")))
    assert (code, reason) == ("INVALID_ARGUMENT", "WRONG_MODALITY")
    assert "text" in sentence
    assert "image" in sentence


def test_an_error_is_a_sentence_with_a_reason_for_programs(stub: EmbeddingServiceStub) -> None:
    _, reason, sentence = error(result_of(stub, RESNET, image("a", b"no image")))
    assert reason == reason.upper() != ""
    assert len(sentence.split()) > 4
