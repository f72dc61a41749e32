"""AsyncClient: the same answers and behaviour as Client, on an event loop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import numpy as np
import pytest

from tests.support.server_process import ServerProcess
from vecserve import (
    AsyncClient,
    Client,
    DeadlineExceeded,
    EmbedError,
    Item,
    ModelNotFound,
    ServerUnavailable,
)

TEXT = "all-MiniLM-L6-v2"
TIMEOUT_S = 120


class Counted:
    """An endless async iterable that knows how much of it was taken."""

    def __init__(self) -> None:
        self.taken = 0

    async def __aiter__(self) -> AsyncIterator[str]:
        while True:
            self.taken += 1
            yield f"text {self.taken}"


@pytest.fixture
async def aclient(server_address: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(server_address) as client:
        yield client


async def only_task() -> bool:
    """Whether every task but this one has ended or ends without outside help."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=TIMEOUT_S)
    return asyncio.all_tasks() == {asyncio.current_task()}


async def test_embeds_as_the_sync_client_does(
    aclient: AsyncClient, client: Client, photo: Path
) -> None:
    texts = [f"sentence {number}" for number in range(200)]
    np.testing.assert_allclose(
        await aclient.embed(TEXT, texts), client.embed(TEXT, texts), atol=1e-5
    )
    models = await aclient.models()
    assert models == client.models()
    assert await aclient.model(models[0].name) == models[0]
    sequences = await aclient.embed(TEXT, ["hello"], pooling="none")
    assert sequences[0].shape == (3, 384)
    rows = await aclient.embed("resnet-50", [photo])
    np.testing.assert_allclose(rows, client.embed("resnet-50", [photo]), rtol=1e-3)


async def test_windows_each_and_items_that_name_their_model(aclient: AsyncClient) -> None:
    long = (np.sin(np.arange(35 * 8000) / 9), 8000)
    (vectors,) = await aclient.embed("whisper-base", [long], windows="each", pooling="mean")
    assert vectors.shape == (2, 512)
    items = [Item("a text", model=TEXT), "names none"]
    text, unnamed = [result async for result in aclient.embed_stream(items)]
    assert text.vector.size == 384
    assert unnamed.error is not None
    assert unnamed.error.reason == "NO_MODEL"


async def test_takes_no_more_than_may_be_in_flight(aclient: AsyncClient) -> None:
    texts = Counted()
    async with aclosing(aclient.embed_stream(TEXT, texts, in_flight=5)) as stream:
        assert texts.taken == 0
        async for result in stream:
            assert texts.taken - result.index - 1 <= 5
            if result.index == 100:
                break
    assert texts.taken <= 106
    assert await only_task()


async def test_leaving_the_loop_leaves_no_tasks(aclient: AsyncClient) -> None:
    taken = asyncio.Semaphore(0)

    async def items() -> AsyncIterator[object]:
        yield "good"
        while True:
            taken.release()
            yield Path("/missing.txt")

    async with asyncio.timeout(TIMEOUT_S):
        async for _ in aclient.embed_stream(TEXT, items(), in_flight=4):
            # As many as may be in flight are: whoever takes the next one waits.
            for _ in range(4):
                await taken.acquire()
            break
    assert await only_task()


async def test_results_come_while_the_items_wait(aclient: AsyncClient) -> None:
    """Each text is made from the answer to the one before it."""
    answers: asyncio.Queue[object] = asyncio.Queue()

    async def texts() -> AsyncIterator[object]:
        yield Path("/missing/file.txt")
        for _ in range(3):
            yield await answers.get()

    seen = []
    async with asyncio.timeout(TIMEOUT_S):
        async for result in aclient.embed_stream(TEXT, texts()):
            seen.append(result)
            answers.put_nowait(f"text {result.index}")
    assert [result.item for result in seen[1:]] == ["text 0", "text 1", "text 2"]
    assert seen[0].error is not None
    assert await only_task()


async def test_many_items_that_fail_here_do_not_block(aclient: AsyncClient) -> None:
    paths = [Path(f"/missing/{number}.txt") for number in range(200)]
    stream = aclient.embed_stream(TEXT, [*paths, "good"], in_flight=4)
    results = [result async for result in stream]
    assert [result.index for result in results] == list(range(201))
    assert [result.error is None for result in results] == [False] * 200 + [True]


async def test_failures_are_listed(aclient: AsyncClient, photo: Path) -> None:
    with pytest.raises(EmbedError, match="2 of 3 items failed") as caught:
        await aclient.embed(TEXT, ["good", photo, Item(Path("/missing.txt"), id="mine")])
    assert [(own.index, own.id) for own in caught.value.failures] == [(1, str(photo)), (2, "mine")]
    (result,) = [
        result
        async for result in aclient.embed_stream(TEXT, [Item(b"bytes", model="no-such-model")])
    ]
    assert result.error is not None
    assert result.error.code == "NOT_FOUND"
    with pytest.raises(ModelNotFound):
        await aclient.embed("no-such-model", ["a"])
    with pytest.raises(TypeError, match="cannot embed a int"):
        await aclient.embed(TEXT, [7])


async def test_an_exception_in_the_items_reaches_the_caller(aclient: AsyncClient) -> None:
    async def texts() -> AsyncIterator[str]:
        yield "a"
        raise LookupError("out of texts")

    seen = []
    with pytest.raises(LookupError, match="out of texts"):
        async for result in aclient.embed_stream(TEXT, texts()):
            seen.append(result.item)
    assert seen == ["a"]
    assert await only_task()


async def test_a_cancelled_task_ends_its_stream(aclient: AsyncClient) -> None:
    texts, started = Counted(), asyncio.Event()

    async def work() -> None:
        async for _ in aclient.embed_stream(TEXT, texts):
            started.set()

    task = asyncio.create_task(work())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await only_task()


async def test_tasks_share_a_client(aclient: AsyncClient) -> None:
    texts = [f"text {number}" for number in range(30)]
    first, *rest = await asyncio.gather(*(aclient.embed(TEXT, texts) for _ in range(4)))
    for rows in rest:
        np.testing.assert_allclose(rows, first, atol=1e-5)


async def test_no_server_and_no_time(aclient: AsyncClient) -> None:
    async with AsyncClient("127.0.0.1:1") as nobody:
        with pytest.raises(ServerUnavailable, match="vecserve-server"):
            await nobody.models()
        with pytest.raises(ServerUnavailable, match=r"127\.0\.0\.1:1"):
            await nobody.embed(TEXT, ["a"])
        with pytest.raises(ServerUnavailable):
            _ = [result async for result in nobody.embed_stream(TEXT, ["a"])]
    await aclient.models()  # there is a server: what follows is no missing one
    with pytest.raises(DeadlineExceeded):
        _ = [result async for result in aclient.embed_stream(TEXT, Counted(), timeout=0.2)]
    assert await only_task()


async def test_a_deadline_that_passes_during_a_write_is_a_deadline(aclient: AsyncClient) -> None:
    await aclient.models()
    for number in range(40):
        with pytest.raises(DeadlineExceeded):
            async for _ in aclient.embed_stream(TEXT, Counted(), timeout=0.02 + number / 1000):
                pass


async def test_a_server_that_stops_says_how_many_items_it_left(
    repository: Path, tmp_path: Path
) -> None:
    (tmp_path / TEXT).symlink_to(repository / TEXT)
    texts = Counted()
    answered = 0
    with ServerProcess(tmp_path) as process:
        async with AsyncClient(process.address) as client:
            with pytest.raises(ServerUnavailable, match="without an answer") as caught:
                async for result in client.embed_stream(TEXT, texts, in_flight=32):
                    answered += result.error is None
                    if result.index == 50:
                        process.terminate()
    assert 1 <= caught.value.unanswered <= 32
    assert answered + caught.value.unanswered <= texts.taken
    assert await only_task()
