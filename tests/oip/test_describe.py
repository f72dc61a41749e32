"""Health, metadata, configuration, statistics."""

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import InferenceServerClient
from tritonclient.grpc.model_config_pb2 import DataType, ModelInstanceGroup

from tests.oip.requests import CLIP, MINILM, failure, inputs, strings
from tests.server_process import ServerProcess


def test_health(client: InferenceServerClient, server_address: str) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(f"{MINILM}.text", "1")
    assert not client.is_model_ready(f"{MINILM}.text", "2")
    assert not client.is_model_ready("gpt")
    with grpc.insecure_channel(server_address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for name in ("", "inference.GRPCInferenceService", MINILM):
            request = health_pb2.HealthCheckRequest(service=name)
            assert stub.Check(request).status == health_pb2.HealthCheckResponse.SERVING


def test_server_metadata_lists_what_works(client: InferenceServerClient) -> None:
    metadata = client.get_server_metadata()
    assert metadata.name == "vecserve"
    assert metadata.version
    assert list(metadata.extensions) == [
        "model_configuration",
        "model_repository",
        "parameters",
        "statistics",
        "system_shared_memory",
    ]


def test_metadata_has_the_batch_axis_and_dims_do_not(client: InferenceServerClient) -> None:
    metadata = client.get_model_metadata(f"{MINILM}.text")
    assert (metadata.platform, list(metadata.versions)) == ("onnxruntime_onnx", ["1"])
    assert {(t.name, t.datatype, *t.shape) for t in metadata.inputs} == {
        ("input_ids", "INT64", -1, -1),
        ("attention_mask", "INT64", -1, -1),
    }
    assert [(t.name, t.datatype, *t.shape) for t in metadata.outputs] == [
        ("sentence_embedding", "FP32", -1, 384),
        ("pooled", "FP32", -1, 384),
        ("token_embeddings", "FP32", -1, -1, 384),
    ]
    config = client.get_model_config(f"{MINILM}.text").config
    assert (config.max_batch_size, config.backend) == (128, "onnxruntime")
    assert config.HasField("dynamic_batching")
    assert {(t.name, t.data_type, *t.dims) for t in config.input} == {
        ("input_ids", DataType.TYPE_INT64, -1),
        ("attention_mask", DataType.TYPE_INT64, -1),
    }
    assert [tuple(t.dims) for t in config.output] == [(384,), (384,), (-1, 384)]
    assert config.instance_group[0].kind == ModelInstanceGroup.KIND_CPU
    assert config.parameters["trained"].string_value == "true"


def test_raw_models_take_either_modality(client: InferenceServerClient) -> None:
    metadata = client.get_model_metadata(CLIP)
    assert {(t.name, t.datatype, *t.shape) for t in metadata.inputs} == {
        ("text", "BYTES", -1, 1),
        ("image", "BYTES", -1, 1),
    }
    assert [(t.name, t.datatype, *t.shape) for t in metadata.outputs] == [
        ("embedding", "FP32", -1, 512)
    ]
    config = client.get_model_config(CLIP).config
    assert all(t.optional and t.data_type == DataType.TYPE_STRING for t in config.input)
    assert config.parameters["trained"].string_value == "false"
    (only,) = client.get_model_config(MINILM).config.input
    assert (only.name, only.optional, list(only.dims)) == ("text", False, [1])


def test_plain_models_say_what_their_files_say(plain: InferenceServerClient) -> None:
    metadata = plain.get_model_metadata("numbers")
    assert len(metadata.inputs) == 12
    assert all(list(t.shape) == [-1, 2, 3] for t in (*metadata.inputs, *metadata.outputs))
    assert {t.name: t.datatype for t in metadata.inputs} == {
        t.name: t.name.removeprefix("x_") for t in metadata.inputs
    }
    assert plain.get_model_config("numbers").config.max_batch_size == 32
    assert plain.get_model_config("small").config.max_batch_size == 4
    config = plain.get_model_config("masked").config
    assert config.dynamic_batching.max_queue_delay_microseconds == 200_000
    fixed = plain.get_model_config("fixed").config
    assert (fixed.max_batch_size, [list(t.dims) for t in fixed.input]) == (0, [[2, 3]])
    assert not fixed.HasField("dynamic_batching")
    assert list(plain.get_model_metadata("fixed").inputs[0].shape) == [2, 3]


def test_statistics_add_up(plain: InferenceServerClient) -> None:
    def read() -> dict[str, int]:
        (stats,) = plain.get_inference_statistics("versions", "2").model_stats
        parts = stats.inference_stats
        counts = {
            parts.success.count,
            parts.queue.count,
            parts.compute_input.count,
            parts.compute_infer.count,
            parts.compute_output.count,
        }
        assert len(counts) == 1
        inside = (parts.queue, parts.compute_input, parts.compute_infer, parts.compute_output)
        assert parts.success.ns >= sum(part.ns for part in inside)
        assert sum(e.compute_infer.count for e in stats.batch_stats) == stats.execution_count
        return {
            "success": parts.success.count,
            "fail": parts.fail.count,
            "rows": stats.inference_count,
            "batches": stats.execution_count,
        }

    before = read()
    for rows in (1, 3, 3):
        values = np.zeros((rows, 3), dtype=np.float32)
        plain.infer("versions", inputs(x=values), model_version="2")
    wrong = inputs(x=np.zeros((1, 4), dtype=np.float32))
    failure(plain.infer, "versions", wrong, model_version="2")
    after = read()
    assert {name: after[name] - before[name] for name in after} == {
        "success": 3,
        "fail": 1,
        "rows": 7,
        "batches": 3,
    }


def test_statistics_of_raw_input_and_of_all(client: InferenceServerClient) -> None:
    client.infer(MINILM, inputs(text=strings(b"a", b"b")))
    (stats,) = client.get_inference_statistics(MINILM).model_stats
    assert stats.inference_count >= 2
    assert stats.inference_stats.compute_input.ns > 0
    assert stats.last_inference > 1_600_000_000_000
    names = {entry.name for entry in client.get_inference_statistics().model_stats}
    assert {MINILM, f"{MINILM}.text", CLIP, f"{CLIP}.image"} <= names
    assert failure(client.get_inference_statistics, "gpt")[0] == "NOT_FOUND"


def test_tensor_requests_are_in_the_metrics(
    plain_server: ServerProcess, plain: InferenceServerClient
) -> None:
    import urllib.request

    plain.infer("fixed", inputs(x=np.zeros((2, 3), dtype=np.float32)))
    with urllib.request.urlopen(plain_server.metrics_url) as response:
        page = response.read().decode()
    assert 'vecserve_items_total{code="OK",model="fixed"}' in page
    assert 'vecserve_batch_rows_count{graph="fixed/1"}' in page
