"""Two servers behind Envoy, behind nginx, and under gRPC's own round_robin."""

import itertools
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from tests.examples.programs import EXAMPLES, LANGUAGES, Example, need_tools
from tests.support.server_process import ServerProcess
from vecserve import Client, ServerUnavailable
from vecserve.v1 import embedding_pb2
from vecserve.v1.embedding_pb2_grpc import EmbeddingServiceStub

MODEL = "all-MiniLM-L6-v2"
CONFIGS = EXAMPLES / "load-balancing"
READY_TIMEOUT_S = 60
CONNECTED_AFTER = 500
"""Calls, by the end of which both connections are up."""


@pytest.fixture
def servers(repository_of: Callable[..., Path]) -> Iterator[list[ServerProcess]]:
    repository = repository_of(MODEL)
    with ServerProcess(repository) as one, ServerProcess(repository) as other:
        yield [one, other]


@pytest.fixture(params=["envoy", "nginx"])
def proxy(
    request: pytest.FixtureRequest, servers: list[ServerProcess], tmp_path: Path
) -> Iterator[str]:
    """The address of a proxy in front of both servers."""
    program = find_program(request.param)
    port = free_port()
    (source,) = CONFIGS.glob(f"{request.param}.*")
    config = tmp_path / source.name
    config.write_text(with_ports(source.read_text(), port, servers))
    commands = {
        "envoy": ["--config-path", str(config), "--concurrency", "1", "--use-dynamic-base-id"],
        "nginx": ["-p", str(tmp_path), "-c", str(config), "-e", "stderr"],
    }
    if request.param == "nginx":
        commands["nginx"] += ["-g", "daemon off; error_log stderr; pid nginx.pid;"]
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen([program, *commands[request.param]], stderr=output)
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = EmbeddingServiceStub(channel)
            # wait_for_ready covers the time until the proxy listens.
            stub.ListModels(
                embedding_pb2.ListModelsRequest(), timeout=READY_TIMEOUT_S, wait_for_ready=True
            )
        yield f"127.0.0.1:{port}"
    except grpc.RpcError:
        pytest.fail(f"{request.param} does not answer:\n{log.read_text()}")
    finally:
        process.terminate()
        process.wait()


def test_a_proxy_gives_each_server_its_streams(proxy: str, servers: list[ServerProcess]) -> None:
    with Client(proxy) as client, Client(servers[0].address) as direct:
        before = items_of(servers)
        for _ in range(6):
            rows = client.embed(MODEL, ["a sentence", "another one"])
        assert items_of(servers) == [count + 6 for count in before]
        assert np.abs(rows - direct.embed(MODEL, ["a sentence", "another one"])).max() < 1e-5


def test_a_stream_stays_open_and_may_be_large(proxy: str) -> None:
    answered = threading.Semaphore(1)
    text = "many words " * 10_000  # 20 of them are more than the body that nginx allows by default

    def items() -> Iterator[str]:
        for _ in range(20):
            answered.acquire()  # each is sent after the answer to the one before it
            yield text

    with Client(proxy) as client:
        for result in client.embed_stream(MODEL, items()):
            assert result.error is None
            answered.release()
    assert result.index == 19


def test_the_other_server_takes_over(proxy: str, servers: list[ServerProcess]) -> None:
    servers[0].stop()
    with Client(proxy) as client:
        for _ in range(4):
            assert client.embed(MODEL, ["a sentence"]).shape == (1, 384)


@pytest.mark.parametrize("language", LANGUAGES)
def test_round_robin_gives_each_server_its_calls(
    language: str, servers: list[ServerProcess]
) -> None:
    need_tools(language)
    addresses = ",".join(server.address for server in servers)
    program = "RoundRobin" if language == "java" else "round_robin"
    example = Example(language, addresses, program=program)
    calls = itertools.count(1)

    def call() -> None:
        example.press_enter()
        example.until(f"ok {next(calls)}\n")

    try:
        for _ in range(CONNECTED_AFTER):  # until both connections are up, one server has all
            call()
            if 0 not in (before := items_of(servers)):
                break
        for _ in range(6):
            call()
        assert items_of(servers) == [count + 3 for count in before]
        example.finish()
    finally:
        example.close()


def test_an_old_connection_ends_and_the_client_goes_on(repository_of: Callable[..., Path]) -> None:
    done = threading.Event()

    def items() -> Iterator[str]:
        yield "a sentence"
        done.wait()  # the stream stays open

    flags = ("--max-connection-age-s", "1", "--shutdown-grace-s", "5")
    with ServerProcess(repository_of(MODEL), *flags) as server, Client(server.address) as client:
        results = client.embed_stream(MODEL, items())
        assert next(results).error is None
        with pytest.raises(ServerUnavailable, match="for its age"):
            next(results)
        done.set()
        assert client.embed(MODEL, ["a sentence"]).shape == (1, 384)


def find_program(name: str) -> str:
    """Return the program's path; skip where it is missing, but fail in CI."""
    beside_python = Path(sys.executable).parent
    if program := shutil.which(name, path=f"{beside_python}:{os.environ['PATH']}:/usr/sbin"):
        return program
    reason = f"no {name}: run examples/install-toolchains.sh and `make setup-dev`"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def with_ports(config: str, port: int, servers: list[ServerProcess]) -> str:
    """Put this test's ports in place of those that the configuration is written with."""
    backends = [server.address.rpartition(":")[2] for server in servers]
    for written, used in zip(("8000", "8011", "8021"), (str(port), *backends), strict=True):
        config, count = re.subn(rf"\b{written}\b", f"<{used}>", config)  # not replaced again
        assert count, f"the configuration has no port {written}"
    return re.sub(r"<(\d+)>", r"\1", config)


def items_of(servers: list[ServerProcess]) -> list[int]:
    """How many items each server has embedded, as its metrics say."""
    counts = []
    for server in servers:
        with urllib.request.urlopen(server.metrics_url) as response:
            found = re.findall(
                r"^vecserve_items_total\{.*\} (\S+)$", response.read().decode(), re.M
            )
        counts.append(round(sum(map(float, found))))
    return counts
