"""Rules of health, metadata, configuration and statistics."""

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient
from tritonclient.grpc.model_config_pb2 import DataType

from tests.contract.oip.requests import CLIP, MINILM, failure, inputs, strings

GRAPH = f"{MINILM}.text"


def test_a_server_that_answers_is_live_and_ready(client: InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()


@pytest.mark.parametrize("model", [MINILM, GRAPH])
def test_a_bundle_and_its_graph_are_ready(client: InferenceServerClient, model: str) -> None:
    assert client.is_model_ready(model)
    assert client.is_model_ready(model, "1")


@pytest.mark.parametrize(("model", "version"), [("gpt", ""), (GRAPH, "2")])
def test_what_is_not_there_is_not_ready(
    client: InferenceServerClient, model: str, version: str
) -> None:
    assert not client.is_model_ready(model, version)


def test_server_metadata_has_a_name_a_version_and_the_extensions(
    client: InferenceServerClient,
) -> None:
    metadata = client.get_server_metadata()
    assert metadata.name
    assert metadata.version
    assert {"model_configuration", "model_repository", "statistics"} <= set(metadata.extensions)


def test_a_graphs_metadata_has_the_batch_axis(client: InferenceServerClient) -> None:
    metadata = client.get_model_metadata(GRAPH)
    assert list(metadata.versions) == ["1"]
    assert {(t.name, t.datatype, *t.shape) for t in metadata.inputs} == {
        ("input_ids", "INT64", -1, -1),
        ("attention_mask", "INT64", -1, -1),
    }
    assert [(t.name, t.datatype, *t.shape) for t in metadata.outputs] == [
        ("sentence_embedding", "FP32", -1, 384),
        ("pooled", "FP32", -1, 384),
        ("token_embeddings", "FP32", -1, -1, 384),
    ]


def test_a_graphs_configuration_leaves_the_batch_axis_out(client: InferenceServerClient) -> None:
    config = client.get_model_config(GRAPH).config
    assert config.max_batch_size > 0
    assert config.HasField("dynamic_batching")
    assert {(t.name, t.data_type, *t.dims) for t in config.input} == {
        ("input_ids", DataType.TYPE_INT64, -1),
        ("attention_mask", DataType.TYPE_INT64, -1),
    }
    assert [tuple(t.dims) for t in config.output] == [(384,), (384,), (-1, 384)]


def test_a_bundle_takes_bytes_and_gives_vectors(client: InferenceServerClient) -> None:
    metadata = client.get_model_metadata(MINILM)
    (text,) = metadata.inputs
    assert (text.name, text.datatype, *text.shape) == ("text", "BYTES", -1, 1)
    (vectors,) = metadata.outputs
    assert (vectors.name, vectors.datatype, *vectors.shape) == ("embedding", "FP32", -1, 384)


def test_a_bundle_of_two_modalities_has_both_inputs_optional(
    client: InferenceServerClient,
) -> None:
    config = client.get_model_config(CLIP).config
    assert {t.name for t in config.input} == {"text", "image"}
    assert all(t.optional and t.data_type == DataType.TYPE_STRING for t in config.input)


def test_a_bundle_of_one_modality_needs_its_input(client: InferenceServerClient) -> None:
    (only,) = client.get_model_config(MINILM).config.input
    assert (only.name, only.optional, list(only.dims)) == ("text", False, [1])


def test_statistics_count_requests_and_rows(client: InferenceServerClient) -> None:
    def counts() -> tuple[int, int]:
        (stats,) = client.get_inference_statistics(MINILM).model_stats
        return stats.inference_stats.success.count, stats.inference_count

    requests, rows = counts()
    client.infer(MINILM, inputs(text=strings(b"a", b"b")))
    assert counts() == (requests + 1, rows + 2)


def test_statistics_count_failures(client: InferenceServerClient) -> None:
    def count() -> int:
        (stats,) = client.get_inference_statistics(MINILM).model_stats
        return int(stats.inference_stats.fail.count)

    before = count()
    failure(client.infer, MINILM, inputs(text=np.ones((1, 4), dtype=np.int64)))
    assert count() == before + 1


def test_statistics_without_a_name_are_of_every_model(client: InferenceServerClient) -> None:
    names = {entry.name for entry in client.get_inference_statistics().model_stats}
    assert {MINILM, GRAPH, CLIP, f"{CLIP}.image"} <= names


def test_the_index_lists_what_is_ready(client: InferenceServerClient) -> None:
    models = client.get_model_repository_index().models
    ready = {model.name for model in models if model.state == "READY"}
    assert {MINILM, GRAPH, CLIP, f"{CLIP}.image"} <= ready


def test_what_is_not_there_is_not_found(client: InferenceServerClient) -> None:
    calls = (
        client.get_model_metadata,
        client.get_model_config,
        client.get_inference_statistics,
    )
    for call in calls:
        assert failure(call, "gpt")[0] == "NOT_FOUND"
