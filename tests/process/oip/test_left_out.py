"""What cannot be served is left out, named, and told what to do; the others are served."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import InferenceServerClient

from tests.contract.oip.requests import failure, inputs
from tests.process.oip.graphs import add, save
from tests.support.server_process import ServerProcess, run_server

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
ZEROS = np.zeros((1, 3), dtype=np.float32)
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n"

# (model, version): what the index says of it.
LEFT_OUT = {
    ("broken", "1"): "ONNX Runtime cannot load",
    ("config", "1"): "colour: Extra inputs are not permitted",
    ("pointer", "1"): "run `git lfs pull`",
    ("weights", "1"): "run `git lfs pull`",
    ("triton", "1"): "encoder.onnx to model.onnx",
    ("plan", "1"): "export the model to ONNX",
    ("empty", ""): "other formats than ONNX are not served",
    ("unversioned", ""): "unversioned/1/model.onnx",
    ("folder", "1"): "is a folder: rename it",
    ("copied", "1.bak"): "rename the folder, or move it out",
    ("org", "deep"): "lies too deep",
    ("lost", "1"): "points to a file that is not there",
    ("stray", ""): "stray/1/model.onnx",
    ("part", "1"): "text.onnx, but no model.onnx",
    ("a model", "1"): "rename the folder",
}
SERVED = ("adds", "copied")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two good models among bad ones."""
    repository = tmp_path_factory.mktemp("repository")
    graph = add(1, ["batch", 3])
    for name in (*SERVED, "broken", "pointer", "weights", "lost", "org/deep", "a model"):
        save(repository, name, graph)
    save(repository, "config", graph, config={"colour": "green"})
    shutil.copytree(repository / "copied" / "1", repository / "copied" / "1.bak")

    def place(name: str) -> Path:
        path = repository / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    good = repository / "adds" / "1" / "model.onnx"
    place("broken/1/model.onnx").write_bytes(b"no graph")
    place("pointer/1/model.onnx").write_bytes(POINTER)
    place("weights/1/model.onnx.data").write_bytes(POINTER)
    place("triton/config.pbtxt").write_text(
        'name: "triton"\ndefault_model_filename: "encoder.onnx"'
    )
    place("plan/config.pbtxt").write_text('platform: "tensorrt_plan"')
    place("plan/1/model.plan").touch()
    place("empty/config.pbtxt").touch()
    for name in ("triton/1/encoder", "unversioned/model", "folder/1/model.onnx/model", "stray"):
        shutil.copy(good, place(f"{name}.onnx"))
    shutil.copy(good, place("part/1/text.onnx"))
    place("lost/1/model.onnx").unlink()
    place("lost/1/model.onnx").symlink_to("nowhere.onnx")
    # None of these looks like a model.
    place(".git/1/model.onnx").touch()
    place("docs/images/photo.jpg").touch()
    place("README.md").touch()
    return repository


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServerProcess]:
    with ServerProcess(folder) as process:
        yield process
        log = process.log
    assert "Traceback" not in log


@pytest.fixture
def client(server: ServerProcess) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(server.address) as client:
        yield client


def health(server: ServerProcess, name: str) -> int:
    with grpc.insecure_channel(server.address) as channel:
        request = health_pb2.HealthCheckRequest(service=name)
        status: int = health_pb2_grpc.HealthStub(channel).Check(request).status
    return status


def test_the_good_are_served(server: ServerProcess, client: InferenceServerClient) -> None:
    for name in SERVED:
        assert client.infer(name, inputs(x=ZEROS)).as_numpy("y")[0, 0] == 1
        assert health(server, name) == SERVING
    assert health(server, "") == SERVING
    assert client.is_server_ready()
    assert "serving 2 models, ready" in server.log


def test_the_index_and_the_log_say_what_is_left_out_and_what_to_do(
    server: ServerProcess, client: InferenceServerClient
) -> None:
    models = client.get_model_repository_index().models
    listed = {(model.name, model.version): model for model in models}
    assert listed.keys() == LEFT_OUT.keys() | {(name, "1") for name in SERVED}
    lines = [line for line in server.log.splitlines() if "not served: " in line]
    assert len(lines) == len(LEFT_OUT)
    for (name, version), says in LEFT_OUT.items():
        assert listed[name, version].state == "UNAVAILABLE"
        assert says in listed[name, version].reason
        label = f"not served: {name} version {version}: " if version else f"not served: {name}: "
        (line,) = [line for line in lines if label in line]
        assert says in line
    assert "--strict would not have started" in server.log


def test_who_asks_for_one_is_told_why(server: ServerProcess, client: InferenceServerClient) -> None:
    for (name, version), says in LEFT_OUT.items():
        if name in SERVED:
            continue
        assert health(server, name) == NOT_SERVING
        code, message = failure(client.infer, name, inputs(x=ZEROS), model_version=version)
        assert code == "UNAVAILABLE"
        assert says in message


def test_one_that_is_mended_is_loaded(
    server: ServerProcess, client: InferenceServerClient, folder: Path
) -> None:
    code, message = failure(client.load_model, "unversioned")
    assert code == "FAILED_PRECONDITION"
    assert "move it to" in message
    save(folder, "broken", add(2, ["batch", 3]))
    save(folder, "pointer", add(2, ["batch", 3]))
    (folder / "unversioned" / "model.onnx").unlink()
    save(folder, "unversioned", add(2, ["batch", 3]))
    for name in ("broken", "pointer", "unversioned"):
        client.load_model(name)
        assert client.infer(name, inputs(x=ZEROS)).as_numpy("y")[0, 0] == 2
        assert health(server, name) == SERVING
    listed = client.get_model_repository_index().models
    assert not [model for model in listed if (model.name, model.version) == ("unversioned", "")]


@pytest.mark.parametrize(
    ("name", "content"),
    [("broken/1/model.onnx", b"no graph"), ("m/model.onnx", b""), ("m/1.bak/model.onnx", b"")],
)
def test_strict_does_not_start(tmp_path: Path, name: str, content: bytes) -> None:
    save(tmp_path, "adds", add(1, ["batch", 3]))
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_bytes(content)
    flags = ["--repository", str(tmp_path), "--port", "0", "--metrics-port", "0", "--strict"]
    refused = run_server(flags)
    assert refused.returncode == 1
    assert str(tmp_path / Path(name).parent) in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_server_with_nothing_to_serve_does_not_start(tmp_path: Path) -> None:
    flags = ["--repository", str(tmp_path), "--port", "0", "--metrics-port", "0"]
    for name, says in (("m/model.onnx", "move it to"), ("m/1/model.onnx", "cannot load")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"no graph")
        refused = run_server(flags)
        assert refused.returncode == 1
        assert says in refused.stderr.splitlines()[-1]
        assert "Traceback" not in refused.stderr
