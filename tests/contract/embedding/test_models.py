"""Rules of ListModels and GetModel: a server says what it has."""

import json
from pathlib import Path

import grpc
import pytest

from tests.contract.embedding.requests import CLIP, MINILM, RESNET, TIMEOUT_S, WHISPER, rpc_error
from vecserve.v1 import embedding_pb2 as pb
from vecserve.v1 import model_pb2
from vecserve.v1.embedding_pb2_grpc import EmbeddingServiceStub


def listed(stub: EmbeddingServiceStub) -> list[model_pb2.ModelInfo]:
    return list(stub.ListModels(pb.ListModelsRequest(), timeout=TIMEOUT_S).models)


def get(stub: EmbeddingServiceStub, model: str, version: str = "") -> model_pb2.ModelInfo:
    request = pb.GetModelRequest(model=model, version=version)
    return stub.GetModel(request, timeout=TIMEOUT_S).model


def test_models_are_listed_by_name_then_version(stub: EmbeddingServiceStub) -> None:
    keys = [(model.name, int(model.version)) for model in listed(stub)]
    assert keys == sorted(keys)
    assert {MINILM, CLIP, RESNET, WHISPER} <= {name for name, _ in keys}


def test_a_model_that_answers_is_ready(stub: EmbeddingServiceStub) -> None:
    assert get(stub, MINILM).state == model_pb2.MODEL_STATE_READY


@pytest.mark.parametrize(
    ("model", "dimensions"), [(MINILM, 384), (CLIP, 512), (RESNET, 2048), (WHISPER, 512)]
)
def test_a_model_says_its_dimensions(
    stub: EmbeddingServiceStub, model: str, dimensions: int
) -> None:
    assert get(stub, model).dimensions == dimensions


@pytest.mark.parametrize(
    ("model", "kinds"),
    [
        (MINILM, {model_pb2.MODALITY_TEXT}),
        (CLIP, {model_pb2.MODALITY_TEXT, model_pb2.MODALITY_IMAGE}),
        (RESNET, {model_pb2.MODALITY_IMAGE}),
        (WHISPER, {model_pb2.MODALITY_AUDIO}),
    ],
)
def test_a_model_says_its_modalities(
    stub: EmbeddingServiceStub, model: str, kinds: set[int]
) -> None:
    assert {modality.modality for modality in get(stub, model).modalities} == kinds


def test_a_model_says_its_own_way_of_pooling_first(stub: EmbeddingServiceStub) -> None:
    (modality,) = get(stub, MINILM).modalities
    own = modality.outputs[0]
    assert (own.pooling, own.normalized) == (model_pb2.POOLING_MEAN, True)


def test_a_text_model_says_how_many_tokens_it_takes(stub: EmbeddingServiceStub) -> None:
    (modality,) = get(stub, MINILM).modalities
    assert modality.max_tokens == 256


def test_an_audio_model_says_its_window_and_its_longest_audio(stub: EmbeddingServiceStub) -> None:
    (modality,) = get(stub, WHISPER).modalities
    assert modality.window_seconds == 30
    assert modality.max_seconds >= modality.window_seconds


@pytest.mark.parametrize("model", [MINILM, CLIP, RESNET, WHISPER])
def test_a_model_says_what_its_manifest_says(
    stub: EmbeddingServiceStub, repository: Path, model: str
) -> None:
    manifest = json.loads((repository / model / "1" / "manifest.json").read_text())
    said = get(stub, model)
    for field in ("trained", "license", "description", "precision"):
        assert getattr(said, field) == manifest[field], field


def test_get_gives_what_list_gives(stub: EmbeddingServiceStub) -> None:
    for model in listed(stub):
        assert get(stub, model.name, model.version) == model


@pytest.mark.parametrize(("model", "version"), [("gpt", ""), ("", ""), (MINILM, "7")])
def test_a_model_that_is_not_there_is_not_found(
    stub: EmbeddingServiceStub, model: str, version: str
) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        get(stub, model, version)
    assert rpc_error(failure.value)[0] == "NOT_FOUND"
