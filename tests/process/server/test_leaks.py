"""What fails half-way leaves nothing behind: memory, graphs, threads, open files."""

from collections.abc import Callable, Iterator

import grpc
import numpy as np
import pytest
from onnx import TensorProto, helper
from tritonclient.grpc import InferenceServerClient, service_pb2, service_pb2_grpc

from tests.contract.oip.requests import failure, inputs
from tests.process.oip.graphs import add, graph, save, spread_and_mean
from tests.support.held_queue import held_until
from tests.support.process_usage import usage_of
from tests.support.server_process import ServerProcess

TIMES = 20
# Of a square of weights, 6 MB; each graph has them twice, for one core and for all.
SIZE = 1250
GRAPH_MB = 2 * SIZE * SIZE * 4 / 1e6
# Of the graph that takes many times its input, and of what its large request takes.
SPREAD, ROWS, LENGTH = 256, 32, 8192
LARGE_MB = ROWS * LENGTH * SPREAD * 4 / 1e6


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("leaks")
    repository = folder / "models"
    weights = np.random.default_rng(0).standard_normal((SIZE, SIZE)).astype(np.float32)
    heavy = graph(
        [helper.make_node("MatMul", ["x", "weights"], ["y"])],
        [("x", TensorProto.FLOAT, [1, SIZE])],
        [("y", TensorProto.FLOAT, [1, SIZE])],
        {"weights": weights},
    )
    save(repository, "heavy", heavy)
    save(repository, "adds", add(1, ["batch", 3]))
    save(repository, "held", add(1, ["batch", 3]), config=held_until(32))
    save(repository, "spread", spread_and_mean(SPREAD))
    # Without a cache every graph has weights of its own: what is kept is seen.
    (folder / "file").touch()
    flags = ("--cache", str(folder / "file" / "cache"), "--compute-cores", "2")
    # One thread loads: a load begins when the one before it has ended.
    with ServerProcess(repository, *flags, "--prepare-workers", "1") as process:
        yield process
        log = process.log
    assert "Traceback" not in log


@pytest.fixture
def client(server: ServerProcess) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(server.address) as client:
        yield client


@pytest.fixture
def stub(server: ServerProcess) -> Iterator[service_pb2_grpc.GRPCInferenceServiceStub]:
    with grpc.insecure_channel(server.address) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def assert_leaves_nothing(server: ServerProcess, action: Callable[[], None]) -> None:
    """Do it a few times, for what is made once, and TIMES more; compare what is held."""
    for _ in range(3):
        action()
    before = usage_of(server.process.pid)
    for _ in range(TIMES):
        action()
    after = usage_of(server.process.pid)
    # What the allocator has in pieces is less than a few of them.
    assert after.memory_mb - before.memory_mb < TIMES / 4 * GRAPH_MB, (before, after)
    assert after.threads <= before.threads + 1, (before, after)
    assert after.files <= before.files + 1, (before, after)


def test_loads_that_fail(server: ServerProcess, client: InferenceServerClient) -> None:
    config = server.repository / "heavy" / "1" / "config.json"
    # Known to be wrong once the graph is loaded.
    config.write_text('{"max_batch_size": 4}')

    def fail() -> None:
        assert failure(client.load_model, "heavy")[0] == "FAILED_PRECONDITION"

    assert_leaves_nothing(server, fail)
    config.unlink()


def test_loads_whose_second_version_fails(
    server: ServerProcess, client: InferenceServerClient
) -> None:
    second = server.repository / "heavy" / "2" / "model.onnx"
    second.parent.mkdir()
    second.write_bytes(b"no graph")

    def fail() -> None:
        assert failure(client.load_model, "heavy")[0] == "FAILED_PRECONDITION"

    assert_leaves_nothing(server, fail)
    second.unlink()
    second.parent.rmdir()


def test_loads_that_are_cancelled(
    server: ServerProcess,
    client: InferenceServerClient,
    stub: service_pb2_grpc.GRPCInferenceServiceStub,
) -> None:
    def cancel() -> None:
        call = stub.RepositoryModelLoad.future(
            service_pb2.RepositoryModelLoadRequest(model_name="heavy")
        )
        # On the same connection: the server has begun with the one before it.
        assert stub.ServerReady(service_pb2.ServerReadyRequest()).ready
        call.cancel()
        # Waits until the load thread is through with the one that was left.
        client.load_model("adds")

    assert_leaves_nothing(server, cancel)
    client.load_model("heavy")


def test_models_that_are_unloaded_and_loaded(
    server: ServerProcess, client: InferenceServerClient
) -> None:
    def swap() -> None:
        client.unload_model("heavy")
        client.load_model("heavy")

    assert_leaves_nothing(server, swap)


def test_streams_that_fail(
    server: ServerProcess, stub: service_pb2_grpc.GRPCInferenceServiceStub
) -> None:
    broken = service_pb2.ModelInferRequest(model_name="held", raw_input_contents=[bytes(10**6)])
    held = service_pb2.ModelInferRequest(model_name="held")
    held.inputs.add(name="x", datatype="FP32", shape=[1, 3])
    held.raw_input_contents.append(bytes(12))
    unanswered = server.metric('vecserve_unanswered_items{graph="held/1"}')

    def fail() -> None:
        for _ in range(5):
            call = stub.ModelStreamInfer(iter([broken]), metadata=[("triton_grpc_error", "true")])
            with pytest.raises(grpc.RpcError):
                list(call)
            assert next(stub.ModelStreamInfer(iter([broken]))).error_message
        left = [stub.ModelStreamInfer(iter([held])) for _ in range(5)]
        while unanswered() < len(left):
            pass
        for call in left:
            call.cancel()
        while unanswered():
            pass

    assert_leaves_nothing(server, fail)


def test_a_large_request_gives_its_memory_back(
    server: ServerProcess, client: InferenceServerClient
) -> None:
    def ask(rows: int, length: int) -> None:
        values = np.ones((rows, length), dtype=np.float32)
        assert client.infer("spread", inputs(x=values)).as_numpy("y").shape == (rows,)

    ask(1, 512)
    before = usage_of(server.process.pid).memory_mb
    for _ in range(3):
        ask(ROWS, LENGTH)
    after = usage_of(server.process.pid).memory_mb
    assert after - before < LARGE_MB / 4, (before, after)
