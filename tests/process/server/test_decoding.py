"""Files that the decoder does not survive: each is refused by itself, and holds up nobody."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from onnx import TensorProto, helper

from tests.contract.embedding.requests import TIMEOUT_S, embed, error, text, vector
from tests.support.bundles import write_bundle
from tests.support.hostile_decoder import HELD_MIB, HostileInput
from tests.support.server_process import ServerProcess
from vecserve.v1 import embedding_pb2 as pb
from vecserve.v1.embedding_pb2_grpc import EmbeddingServiceStub
from vecserve_server.repository.manifest import Output, Pooling, Tower

NAME = "hostile"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose graph gives back the number that it takes."""
    folder = tmp_path_factory.mktemp("repository")
    shape: list[str | int | None] = ["batch", 1]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["number"], ["vector"])],
        NAME,
        [helper.make_tensor_value_info("number", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("vector", TensorProto.FLOAT, shape)],
    )
    tower = Tower(
        graph="hostile.onnx",
        input=HostileInput(),
        outputs=(Output(name="vector", pooling=Pooling.MEAN, normalized=False),),
        max_batch_rows=8,
        max_batch_positions=8,
    )
    write_bundle(folder, graph, tower, 1)
    return folder


@contextlib.contextmanager
def serving(repository: Path, *flags: str) -> Iterator[tuple[ServerProcess, EmbeddingServiceStub]]:
    with (
        ServerProcess(repository, *flags, module="tests.support.hostile_decoder") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        yield server, EmbeddingServiceStub(channel)
        assert "Traceback" not in server.log


def request(command: str) -> pb.EmbedRequest:
    return pb.EmbedRequest(model=NAME, items=[text("a", command)])


def hang(stub: EmbeddingServiceStub, folder: Path) -> tuple[grpc.Future, int]:
    """Send a file on which the decoder hangs; return the call, and the decoder's process."""
    fifo = folder / "fifo"
    os.mkfifo(fifo)
    call = stub.Embed.future(request(f"hang {fifo}"))
    return call, int(fifo.read_text())


def process_of_the_decoder(stub: EmbeddingServiceStub) -> int:
    return int(vector(*embed(stub, NAME, text("a", "process")))[0])


def wait_until_gone(process: int) -> None:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        # In a container nobody may reap a process whose parent is gone.
        while ") Z " not in Path(f"/proc/{process}/stat").read_text():
            pass


def test_what_the_decoder_does_not_survive_is_refused_alone(repository: Path) -> None:
    commands = {
        "spin": "DECODING_TOO_SLOW",
        "crash": "DECODER_CRASHED",
        "eat": "DECODING_TOO_LARGE",
        f"large {HELD_MIB + 1} lock": "DECODING_TOO_LARGE",
    }
    items = [text(command, command) for command in commands]
    items += [text(f"number {n}", f"number {n}") for n in range(20)]
    flags = ("--max-decode-s", "1", "--max-decode-mb", str(HELD_MIB))
    with serving(repository, *flags) as (server, stub):
        results = {result.item_id: result for result in embed(stub, NAME, *items)}
        for command, reason in commands.items():
            code, said, sentence = error(results[command])
            assert (code, said) == ("INVALID_ARGUMENT", reason)
            assert ": " in sentence
        server.wait_for_log("a decode worker ended and is replaced: the decoder crashed")
        for number in range(20):
            assert vector(results[f"number {number}"]).tolist() == [number]


def test_a_deadline_ends_the_decoder(repository: Path, tmp_path: Path) -> None:
    with serving(repository, "--prepare-workers", "1") as (_, stub):
        process = process_of_the_decoder(stub)
        # Nobody reads the pipe: it waits to open it.
        os.mkfifo(tmp_path / "fifo")
        late = request(f"hang {tmp_path / 'fifo'}")
        late.options.timeout.FromMilliseconds(2000)
        (result,) = stub.Embed(late, timeout=TIMEOUT_S).results
        assert error(result)[:2] == ("DEADLINE_EXCEEDED", "DEADLINE_MISSED")
        wait_until_gone(process)
        assert vector(*embed(stub, NAME, text("a", "number 3"))).tolist() == [3]


def test_a_caller_who_leaves_ends_the_decoder(repository: Path, tmp_path: Path) -> None:
    with serving(repository, "--prepare-workers", "1") as (_, stub):
        call, process = hang(stub, tmp_path)
        call.cancel()
        wait_until_gone(process)
        assert vector(*embed(stub, NAME, text("a", "number 3"))).tolist() == [3]


def test_a_server_that_stops_ends_the_decoder(repository: Path, tmp_path: Path) -> None:
    with serving(repository, "--shutdown-grace-s", "0") as (server, stub):
        call, process = hang(stub, tmp_path)
        server.terminate()
        assert server.wait() == 0
        wait_until_gone(process)
        assert call.exception()


def test_a_server_that_is_killed_takes_the_decoder_along(repository: Path, tmp_path: Path) -> None:
    with serving(repository) as (server, stub):
        _, process = hang(stub, tmp_path)
        server.kill()
        wait_until_gone(process)


def test_a_decoder_that_is_killed_while_idle_is_replaced(repository: Path) -> None:
    with serving(repository, "--prepare-workers", "1") as (_, stub):
        first = process_of_the_decoder(stub)
        # A service manager signals all of a service: the server still has items to answer.
        fork_server = int(Path(f"/proc/{first}/stat").read_text().rpartition(")")[2].split()[1])
        for process in (first, fork_server):
            os.kill(process, signal.SIGTERM)
            os.kill(process, signal.SIGINT)
        assert process_of_the_decoder(stub) == first
        os.kill(first, signal.SIGKILL)
        wait_until_gone(first)
        assert process_of_the_decoder(stub) != first


def test_large_files_wait_for_each_other_and_small_ones_for_none(
    repository: Path, tmp_path: Path
) -> None:
    fifo, lock = tmp_path / "fifo", tmp_path / "lock"
    os.mkfifo(fifo)
    flags = ("--prepare-workers", "3", "--max-decode-mb", str(HELD_MIB))
    with serving(repository, *flags) as (_, stub):
        held = stub.Embed.future(request(f"hold {fifo} {lock}"))
        while not lock.exists():
            pass
        large = [stub.Embed.future(request(f"large 60 {lock}")) for _ in range(2)]
        assert vector(*embed(stub, NAME, text("a", "number 3"))).tolist() == [3]
        fifo.write_text("go on")
        for call in (held, *large):
            (result,) = call.result(TIMEOUT_S).results
            assert vector(result).tolist() == [1]
