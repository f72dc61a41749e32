"""Health, metadata, configuration, statistics."""

import numpy as np
from tritonclient.grpc import InferenceServerClient
from tritonclient.grpc.model_config_pb2 import ModelInstanceGroup

from tests.contract.oip.requests import MINILM, failure, inputs
from tests.support.server_process import ServerProcess


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


def test_a_bundles_graph_says_what_runs_it(client: InferenceServerClient) -> None:
    metadata = client.get_model_metadata(f"{MINILM}.text")
    assert metadata.platform == "onnxruntime_onnx"
    config = client.get_model_config(f"{MINILM}.text").config
    assert (config.max_batch_size, config.backend) == (128, "onnxruntime")
    assert config.instance_group[0].kind == ModelInstanceGroup.KIND_CPU
    assert config.parameters["trained"].string_value == "true"


def test_plain_models_say_what_their_files_say(plain: InferenceServerClient) -> None:
    metadata = plain.get_model_metadata("numbers")
    assert len(metadata.inputs) == 12
    assert all(list(t.shape) == [-1, 2, 3] for t in (*metadata.inputs, *metadata.outputs))
    assert {t.name: t.datatype for t in metadata.inputs} == {
        t.name: t.name.removeprefix("x_") for t in metadata.inputs
    }
    assert plain.get_model_config("numbers").config.max_batch_size == 32
    small = plain.get_model_config("small").config
    assert (small.max_batch_size, small.instance_group[0].count) == (4, 1)
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


def test_tensor_requests_are_in_the_metrics(
    plain_server: ServerProcess, plain: InferenceServerClient
) -> None:
    import urllib.request

    plain.infer("fixed", inputs(x=np.zeros((2, 3), dtype=np.float32)))
    with urllib.request.urlopen(plain_server.metrics_url) as response:
        page = response.read().decode()
    assert 'vecserve_items_total{code="OK",model="fixed"}' in page
    assert 'vecserve_batch_rows_count{graph="fixed/1"}' in page
