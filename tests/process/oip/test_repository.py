"""RepositoryIndex, RepositoryModelLoad, RepositoryModelUnload."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import onnxruntime
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import InferenceServerClient
from tritonclient.grpc.aio import InferenceServerClient as AsyncClient

from tests.contract.embedding import requests as typed
from tests.contract.oip.requests import MINILM, failure, inputs, strings
from tests.process.oip.graphs import add, save
from tests.support.server_process import ServerProcess, run_server
from vecserve.v1 import embedding_pb2
from vecserve.v1.embedding_pb2_grpc import EmbeddingServiceStub
from vecserve_server.repository.onnx_file import OnnxFileConfig

ZEROS = np.zeros((1, 3), dtype=np.float32)
SHAPE: list[int | str | None] = ["batch", 3]


@pytest.fixture
def folder(repository: Path, tmp_path: Path) -> Path:
    """A repository with one bundle and one plain model."""
    (tmp_path / MINILM).symlink_to(repository / MINILM)
    save(tmp_path, "adds", add(1, SHAPE))
    return tmp_path


@pytest.fixture
def server(folder: Path) -> Iterator[ServerProcess]:
    with ServerProcess(folder) as process:
        yield process
        log = process.log
    assert "Traceback" not in log


@pytest.fixture
def control(server: ServerProcess) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(server.address) as client:
        yield client


def index(client: InferenceServerClient) -> dict[tuple[str, str], str]:
    models = client.get_model_repository_index().models
    return {(model.name, model.version): model.state for model in models}


def result(client: InferenceServerClient, version: str = "") -> float:
    values = client.infer("adds", inputs(x=ZEROS), model_version=version).as_numpy("y")
    return float(values[0, 0])


def test_load_puts_what_lies_there_in_the_place_of_what_was_served(
    folder: Path, control: InferenceServerClient
) -> None:
    assert result(control) == 1
    save(folder, "adds", add(5, SHAPE))
    save(folder, "adds", add(7, SHAPE), version=2)
    save(folder, "new", add(1, SHAPE))
    assert result(control) == 1
    assert index(control)["adds", "2"] == "UNAVAILABLE"
    assert index(control)["new", "1"] == "UNAVAILABLE"
    control.load_model("adds")
    assert (result(control), result(control, "1")) == (7, 5)
    assert failure(control.get_model_metadata, "new")[0] == "NOT_FOUND"
    control.load_model("new")
    assert control.is_model_ready("new")
    shutil.rmtree(folder / "adds" / "2")
    control.load_model("adds")
    assert result(control) == 5
    assert failure(control.infer, "adds", inputs(x=ZEROS), model_version="2")[0] == "NOT_FOUND"


def test_a_load_that_fails_leaves_the_old_one(folder: Path, control: InferenceServerClient) -> None:
    (folder / "adds" / "1" / "model.onnx").write_bytes(b"no graph")
    code, message = failure(control.load_model, "adds")
    assert code == "FAILED_PRECONDITION"
    assert "ONNX Runtime cannot load" in message
    assert result(control) == 1
    assert failure(control.load_model, "nothing")[0] == "NOT_FOUND"
    assert failure(control.load_model, "../adds")[0] == "NOT_FOUND"
    assert failure(control.load_model, f"{MINILM}.text")[0] == "INVALID_ARGUMENT"
    assert failure(control.load_model, "adds", config="{}")[0] == "INVALID_ARGUMENT"


def test_unload_and_load_again(control: InferenceServerClient, server: ServerProcess) -> None:
    with grpc.insecure_channel(server.address) as channel:
        stub = EmbeddingServiceStub(channel)
        health = health_pb2_grpc.HealthStub(channel)

        def health_of(name: str) -> int:
            status: int = health.Check(health_pb2.HealthCheckRequest(service=name)).status
            return status

        control.unload_model(MINILM)
        assert not control.is_model_ready(MINILM)
        assert control.is_server_ready()
        for name in (MINILM, f"{MINILM}.text"):
            code, message = failure(control.get_model_metadata, name)
            assert (code, "is unloaded" in message) == ("UNAVAILABLE", True)
            assert index(control)[name, "1"] == "UNAVAILABLE"
        assert not stub.ListModels(embedding_pb2.ListModelsRequest()).models
        with pytest.raises(grpc.RpcError) as caught:
            typed.embed(stub, MINILM, typed.text("a"))
        assert typed.rpc_error(caught.value)[:2] == ("UNAVAILABLE", "MODEL_UNLOADED")
        assert health_of(MINILM) == health_pb2.HealthCheckResponse.NOT_SERVING
        assert health_of("") == health_pb2.HealthCheckResponse.SERVING
        control.load_model(MINILM)
        assert index(control)[MINILM, "1"] == "READY"
        assert typed.vector(typed.embed(stub, MINILM, typed.text("a"))[0]).shape == (384,)
        assert health_of(MINILM) == health_pb2.HealthCheckResponse.SERVING
    assert failure(control.unload_model, "nothing")[0] == "NOT_FOUND"


def test_a_model_unloaded_and_gone_from_disk_is_not_found_by_both_protocols(
    control: InferenceServerClient, server: ServerProcess, folder: Path
) -> None:
    control.unload_model(MINILM)
    (folder / MINILM).unlink()
    assert failure(control.infer, MINILM, inputs(text=strings(b"a")))[0] == "NOT_FOUND"
    assert (MINILM, "1") not in index(control)
    with grpc.insecure_channel(server.address) as channel:
        stub = EmbeddingServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            typed.embed(stub, MINILM, typed.text("a"))
        assert typed.rpc_error(caught.value)[:2] == ("NOT_FOUND", "MODEL_NOT_FOUND")
        with pytest.raises(grpc.RpcError) as caught:
            stub.GetModel(embedding_pb2.GetModelRequest(model=MINILM))
        assert typed.rpc_error(caught.value)[0] == "NOT_FOUND"


async def test_the_aio_client_describes_and_controls_too(server: ServerProcess) -> None:
    async with AsyncClient(server.address) as client:
        await client.infer("adds", inputs(x=ZEROS))
        (stats,) = (await client.get_inference_statistics("adds")).model_stats
        assert stats.inference_stats.success.count == 1
        assert [t.name for t in (await client.get_model_metadata("adds")).inputs] == ["x"]
        assert (await client.get_model_config("adds")).config.max_batch_size == 32
        await client.unload_model("adds")
        assert not await client.is_model_ready("adds")
        states = {m.name: m.state for m in (await client.get_model_repository_index()).models}
        assert states["adds"] == "UNAVAILABLE"
        await client.load_model("adds")
        assert await client.is_model_ready("adds")


def test_no_request_is_lost_while_models_are_swapped(
    control: InferenceServerClient, server: ServerProcess
) -> None:
    stop = threading.Event()
    problems: list[str] = []
    served = [0]

    def ask() -> None:
        with InferenceServerClient(server.address) as client:
            while not stop.is_set():
                try:
                    rows = client.infer(MINILM, inputs(text=strings(b"a", b"some more words")))
                    assert rows.as_numpy("embedding").shape == (2, 384)
                    assert result(client) == 1
                    served[0] += 1
                except Exception as problem:
                    problems.append(repr(problem))
                    return

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for name in (MINILM, "adds", MINILM, "adds"):
        control.load_model(name)
    stop.set()
    for thread in threads:
        thread.join()
    assert not problems
    assert served[0] > 3


def test_unload_answers_what_was_accepted(folder: Path) -> None:
    save(folder, "held", add(1, SHAPE), config={"queue_delay_us": 500_000})
    with ServerProcess(folder) as process, InferenceServerClient(process.address) as client:
        with grpc.insecure_channel(process.address) as channel:
            held = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            request = _request_for("held")
            call = held.future(request)
            while 'vecserve_unanswered_items{graph="held/1"} 1.0' not in _metrics(process):
                pass
            client.unload_model("held")
            assert call.done()
            assert call.result()
        assert 'graph="held/1"} 0' not in _metrics(process)


def test_a_config_for_triton_is_named_with_what_to_write_instead(folder: Path) -> None:
    (folder / "adds" / "config.pbtxt").write_text("max_batch_size: 7\n")
    save(folder, "adds", add(2, SHAPE), version=2)
    with ServerProcess(folder) as process, InferenceServerClient(process.address) as client:
        assert client.get_model_config("adds").config.max_batch_size == 32
        (line,) = [line for line in process.log.splitlines() if "config.pbtxt" in line]
    assert "WARNING" in line
    assert "is not read: write a config.json" in line
    for field in OnnxFileConfig.model_fields.keys() - {"mask_input", "share_batches"}:
        assert field in line


@pytest.mark.skipif(
    "OpenVINOExecutionProvider" in onnxruntime.get_available_providers(),
    reason="this ONNX Runtime has OpenVINO",
)
def test_openvino_that_is_not_installed(folder: Path) -> None:
    save(folder, "adds", add(1, SHAPE), config={"execution_provider": "openvino"})
    flags = ("--port", "0", "--metrics-port", "0", "--strict")
    refused = run_server(["--repository", str(folder), *flags])
    assert refused.returncode == 1
    assert "install vecserve[server,openvino]" in refused.stderr
    assert "Traceback" not in refused.stderr


def _request_for(model: str) -> bytes:
    from tritonclient.grpc import service_pb2

    request = service_pb2.ModelInferRequest(model_name=model)
    request.inputs.add(name="x", datatype="FP32", shape=[1, 3])
    request.raw_input_contents.append(ZEROS.tobytes())
    return bytes(request.SerializeToString())


def _metrics(process: ServerProcess) -> str:
    import urllib.request

    with urllib.request.urlopen(process.metrics_url) as response:
        return str(response.read().decode())


@pytest.mark.parametrize(
    ("name", "version", "config", "shape", "says"),
    [
        ("m", 1, {"max_batch_size": -1}, SHAPE, "max_batch_size: Input should be greater"),
        ("m", 1, {"colour": "green"}, SHAPE, "colour: Extra inputs are not permitted"),
        ("m", 1, {"execution_provider": "abacus"}, SHAPE, "execution_provider"),
        ("m", 1, {"max_batch_size": 4}, [2, 3], "the first axis of its inputs"),
        ("m n", 1, {}, SHAPE, "rename the folder"),
        ("m", 0, {}, SHAPE, "rename the folder"),
        (f"{MINILM}.text", 1, {}, SHAPE, "would both be served as all-MiniLM-L6-v2.text"),
    ],
)
def test_plain_models_that_cannot_be_served(
    folder: Path,
    name: str,
    version: int,
    config: dict[str, object],
    shape: list[int | str | None],
    says: str,
) -> None:
    save(folder, name, add(1, shape), version=version, config=config)
    flags = ("--port", "0", "--metrics-port", "0", "--strict")
    refused = run_server(["--repository", str(folder), *flags])
    assert refused.returncode == 1
    assert says in refused.stderr
    assert "Traceback" not in refused.stderr
