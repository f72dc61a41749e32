"""What both clients do while a model is loading, or the server not there yet."""

import asyncio
import itertools
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from pathlib import Path

import pytest

from tests.client.loading_server import WAIT_S, LoadingServer
from tests.support.server_process import ServerProcess
from vecserve import (
    AsyncClient,
    Client,
    DeadlineExceeded,
    EmbedError,
    Item,
    ServerUnavailable,
    _deadline,
)

TEXT, AUDIO = "all-MiniLM-L6-v2", "whisper-base"
SLOW = "slow"
# Long enough for anything on a busy machine.
TIMEOUT_S = 300
TEXTS = [f"text {number}" for number in range(10)]


@pytest.fixture
def loading() -> Iterator[LoadingServer]:
    with LoadingServer(SLOW) as server:  # type: ignore[abstract]  # two calls are not implemented
        yield server


@pytest.fixture
def load_once_refused(loading: LoadingServer) -> Iterator[Callable[[int], None]]:
    """Loads the model in the background, once so many texts have been refused."""
    with ThreadPoolExecutor(1) as background:

        def work(texts: int) -> None:
            loading.wait_for_refusals(texts)
            loading.load(SLOW)

        def start(texts: int) -> None:
            background.submit(work, texts)

        yield start


@pytest.fixture
def time_passes_once_refused(
    loading: LoadingServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[int], None]]:
    """Lets the client's clock jump past TIMEOUT_S, once so many texts have been refused."""
    jumped_s = 0.0
    monkeypatch.setattr(_deadline, "monotonic", lambda: time.monotonic() + jumped_s)
    with ThreadPoolExecutor(1) as background:

        def work(texts: int) -> None:
            nonlocal jumped_s
            loading.wait_for_refusals(texts)
            jumped_s = TIMEOUT_S

        def start(texts: int) -> None:
            background.submit(work, texts)

        yield start


def test_items_are_embedded_once_when_their_model_is_loaded(
    loading: LoadingServer, load_once_refused: Callable[[int], None]
) -> None:
    with Client(loading.address) as client:
        load_once_refused(len(TEXTS))
        results = list(client.embed_stream(SLOW, TEXTS))
        assert client.embed(SLOW, ["after"]).shape == (1, 1)
    assert [result.item for result in results] == TEXTS
    assert not any(result.error for result in results)
    assert loading.embedded == dict.fromkeys([*TEXTS, "after"], 1)


async def test_async_items_are_embedded_once_when_their_model_is_loaded(
    loading: LoadingServer, load_once_refused: Callable[[int], None]
) -> None:
    async with AsyncClient(loading.address) as client:
        load_once_refused(len(TEXTS))
        results = [result async for result in client.embed_stream(SLOW, TEXTS)]
    assert [result.item for result in results] == TEXTS
    assert not any(result.error for result in results)
    assert loading.embedded == dict.fromkeys(TEXTS, 1)


def test_another_server_may_still_be_loading(loading: LoadingServer) -> None:
    """What GetModel says is one server's word; the item may reach another."""
    loading.said_ready.add(SLOW)
    with Client(loading.address) as client, ThreadPoolExecutor(1) as background:
        rows = background.submit(client.embed, SLOW, TEXTS)
        loading.wait_for_refusals(len(TEXTS), times=3)
        loading.load(SLOW)
        assert rows.result(WAIT_S).shape == (len(TEXTS), 1)
    assert loading.embedded == dict.fromkeys(TEXTS, 1)


def test_items_of_other_models_go_on(loading: LoadingServer) -> None:
    items = [Item("slow", model=SLOW), *TEXTS]
    with Client(loading.address) as client:
        stream = client.embed_stream("fast", items, ordered=False)
        first = [next(stream) for _ in TEXTS]
        assert [result.item for result in first] == TEXTS
        loading.load(SLOW)
        assert [result.item for result in stream] == items[:1]


async def test_async_items_of_other_models_go_on(loading: LoadingServer) -> None:
    items = [Item("slow", model=SLOW), *TEXTS]
    async with AsyncClient(loading.address) as client:
        stream = client.embed_stream("fast", items, ordered=False)
        first = [await anext(stream) for _ in TEXTS]
        assert [result.item for result in first] == TEXTS
        loading.load(SLOW)
        assert [result.item async for result in stream] == items[:1]


def test_what_waits_is_in_flight(
    loading: LoadingServer, load_once_refused: Callable[[int], None]
) -> None:
    taken = 0

    def texts() -> Iterator[str]:
        nonlocal taken
        for number in itertools.count():
            taken += 1
            yield f"text {number}"

    with Client(loading.address) as client:
        load_once_refused(4)
        stream = client.embed_stream(SLOW, texts(), in_flight=4)
        for result in itertools.islice(stream, 20):
            assert result.error is None
            assert taken - result.index - 1 <= 4
        stream.close()
    assert set(loading.refused) == {f"text {number}" for number in range(4)}


@pytest.mark.parametrize("more_to_come", [False, True])
def test_the_timeout_ends_the_wait(
    loading: LoadingServer, time_passes_once_refused: Callable[[int], None], more_to_come: bool
) -> None:
    done = threading.Event()

    def texts() -> Iterator[str]:
        yield from TEXTS
        if more_to_come:
            done.wait()

    with Client(loading.address) as client:
        time_passes_once_refused(len(TEXTS))
        with pytest.raises(DeadlineExceeded, match=r"still loading slow .* without an answer: 10"):
            list(client.embed_stream(SLOW, texts(), timeout=TIMEOUT_S))
        done.set()
    assert not loading.embedded


async def test_the_timeout_ends_the_async_wait(
    loading: LoadingServer, time_passes_once_refused: Callable[[int], None]
) -> None:
    async with AsyncClient(loading.address) as client:
        time_passes_once_refused(len(TEXTS))
        with pytest.raises(DeadlineExceeded, match=r"still loading slow .* without an answer: 10"):
            await client.embed(SLOW, TEXTS, timeout=TIMEOUT_S)


def test_without_a_timeout_items_fail_in_the_end(
    loading: LoadingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_deadline, "LOADING_TIMEOUT_S", 0.3)
    with Client(loading.address) as client:
        with pytest.raises(EmbedError, match="still loading") as caught:
            client.embed(SLOW, TEXTS)
        assert [own.reason for own in caught.value.failures] == ["MODEL_LOADING"] * len(TEXTS)
        # The rest of a stream is not lost with them.
        items = [Item("slow", model=SLOW), "fast"]
        slow, fast = client.embed_stream("fast", items)
    assert slow.error is not None
    assert fast.error is None


async def test_without_a_timeout_async_items_fail_in_the_end(
    loading: LoadingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_deadline, "LOADING_TIMEOUT_S", 0.3)
    async with AsyncClient(loading.address) as client:
        results = [result async for result in client.embed_stream(SLOW, TEXTS)]
    assert [result.error and result.error.reason for result in results] == ["MODEL_LOADING"] * 10


def test_a_server_that_goes_leaves_what_waits_unanswered(loading: LoadingServer) -> None:
    with Client(loading.address) as client, ThreadPoolExecutor(1) as background:
        waiting = background.submit(lambda: list(client.embed_stream(SLOW, TEXTS)))
        loading.wait_for_refusals(len(TEXTS))
        loading.stop()
        with pytest.raises(ServerUnavailable) as caught:
            waiting.result(WAIT_S)
    assert caught.value.unanswered == len(TEXTS)


def test_a_file_that_is_gone_by_then_fails_alone(loading: LoadingServer, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("a file")
    with Client(loading.address) as client, ThreadPoolExecutor(1) as background:
        waiting = background.submit(lambda: list(client.embed_stream(SLOW, [file, "b"])))
        loading.wait_for_refusals(2)
        file.unlink()
        loading.load(SLOW)
        gone, kept = waiting.result(WAIT_S)
    assert gone.error is not None
    assert gone.error.reason == "FILE_UNREADABLE"
    assert kept.error is None


def test_an_exception_in_the_items_comes_after_those_that_waited(
    loading: LoadingServer, load_once_refused: Callable[[int], None]
) -> None:
    def texts() -> Iterator[str]:
        yield from ("a", "b")
        raise LookupError("out of texts")

    seen = []
    with Client(loading.address) as client:
        load_once_refused(2)
        with pytest.raises(LookupError, match="out of texts"):
            for result in client.embed_stream(SLOW, texts()):
                seen.append(result.item)
    assert seen == ["a", "b"]


async def test_leaving_the_loop_while_items_wait_leaves_no_tasks(loading: LoadingServer) -> None:
    async def items() -> AsyncIterator[object]:
        yield Item("waits", model=SLOW)
        yield "goes on"
        await asyncio.Event().wait()

    async with AsyncClient(loading.address) as client:
        async with aclosing(client.embed_stream("fast", items(), ordered=False)) as stream:
            await anext(stream)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=WAIT_S)
        assert asyncio.all_tasks() == {asyncio.current_task()}


def test_a_model_of_a_real_server_is_waited_for(repository_of: Callable[..., Path]) -> None:
    with (
        ServerProcess(repository_of(AUDIO), until="listening on") as server,
        Client(server.address) as client,
    ):
        assert client.model(AUDIO).state == "loading"
        assert client.embed(AUDIO, [([0.0] * 16_000, 16_000)]).shape == (1, 512)
        # It did wait: the server refused the item at first.
        assert server.metric('vecserve_items_total{code="UNAVAILABLE",model="unknown"}')() >= 1


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def start(repository: Path, port: int) -> ServerProcess:
    return ServerProcess(repository, "--port", str(port), until="listening on")


def test_a_server_that_is_not_there_yet_is_waited_for(repository_of: Callable[..., Path]) -> None:
    port = free_port()
    with Client(f"127.0.0.1:{port}") as client, ThreadPoolExecutor(1) as background:
        rows = background.submit(client.embed, TEXT, ["a text"], timeout=TIMEOUT_S)
        with start(repository_of(TEXT), port):
            assert rows.result(TIMEOUT_S).shape == (1, 384)


async def test_async_a_server_that_is_not_there_yet_is_waited_for(
    repository_of: Callable[..., Path],
) -> None:
    port = free_port()
    async with AsyncClient(f"127.0.0.1:{port}") as client:
        rows = asyncio.create_task(client.embed(TEXT, ["a text"], timeout=TIMEOUT_S))
        await asyncio.sleep(0)  # its first attempt comes before the server
        server = start(repository_of(TEXT), port)
        await asyncio.to_thread(server.__enter__)
        try:
            assert (await rows).shape == (1, 384)
        finally:
            await asyncio.to_thread(server.stop)


def embed_command(*arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "vecserve", "embed", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"COLUMNS": "200"},
    )


def test_the_command_waits_for_a_model_and_says_so(
    loading: LoadingServer, load_once_refused: Callable[[int], None]
) -> None:
    load_once_refused(2)
    with embed_command("-m", SLOW, "-s", loading.address, "-t", "a", "-t", "b") as process:
        stdout, stderr = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, stderr
    assert len(stdout.splitlines()) == 2
    assert "waiting: slow is still loading" in stderr


def test_the_command_waits_for_a_server(repository_of: Callable[..., Path]) -> None:
    port = free_port()
    arguments = ("-m", TEXT, "-s", f"127.0.0.1:{port}", "-t", "a", "--timeout", str(TIMEOUT_S))
    with embed_command(*arguments) as process, start(repository_of(TEXT), port):
        stdout, stderr = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, stderr
    assert len(stdout.splitlines()) == 1


def test_the_command_gives_up_at_its_timeout(loading: LoadingServer) -> None:
    arguments = ("-m", SLOW, "-s", loading.address, "-t", "a", "--timeout", "5")
    with embed_command(*arguments) as process:
        _, stderr = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 1
    assert "still loading slow when the timeout passed" in stderr


def test_the_timeout_ends_the_wait_for_a_server() -> None:
    with Client("127.0.0.1:1") as client:
        calls: list[Callable[[], object]] = [
            lambda: client.models(timeout=0.2),
            lambda: client.embed(TEXT, ["a"], timeout=0.2),
            lambda: list(client.embed_stream(TEXT, ["a"], timeout=0.2)),
        ]
        for call in calls:
            with pytest.raises(ServerUnavailable, match="within the timeout"):
                call()


def test_no_time_is_no_missing_server_once_it_answered(loading: LoadingServer) -> None:
    with Client(loading.address) as client:
        assert list(client.embed_stream("fast", ["a"]))
        for _ in range(20):
            with suppress(DeadlineExceeded):
                list(client.embed_stream("fast", ["a"], timeout=1e-6))


async def test_a_server_that_answered_and_went_is_not_waited_for(loading: LoadingServer) -> None:
    async with AsyncClient(loading.address) as client:
        with Client(loading.address) as sync_client:
            assert list(sync_client.embed_stream("fast", ["a"]))
            assert [result async for result in client.embed_stream("fast", ["a"])]
            loading.stop()
            with pytest.raises(ServerUnavailable, match="no server answers"):
                sync_client.models(timeout=WAIT_S)
            with pytest.raises(ServerUnavailable, match="no server answers"):
                await client.models(timeout=WAIT_S)


async def test_the_timeout_ends_the_async_wait_for_a_server() -> None:
    async with AsyncClient("127.0.0.1:1") as client:
        with pytest.raises(ServerUnavailable, match="within the timeout"):
            await client.embed(TEXT, ["a"], timeout=0.2)
