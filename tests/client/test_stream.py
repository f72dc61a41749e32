"""`Client.embed_stream`: lazy, bounded, in order, and it ends cleanly."""

import itertools
import queue
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server_process import ServerProcess
from vecserve import Client, Image, Item, ServerUnavailable

TEXT = "all-MiniLM-L6-v2"
AUDIO = "whisper-base"
JOIN_TIMEOUT_S = 120


class Counted:
    """An endless iterable that knows how much of it was taken."""

    def __init__(self) -> None:
        self.taken = 0

    def __iter__(self) -> Iterator[str]:
        for number in itertools.count():
            self.taken += 1
            yield f"text {number}"


def assert_ended(threads: set[threading.Thread]) -> None:
    for thread in threads:
        thread.join(JOIN_TIMEOUT_S)
        assert not thread.is_alive(), thread.name


def test_takes_no_more_than_may_be_in_flight(client: Client) -> None:
    texts = Counted()
    stream = client.embed_stream(TEXT, texts, in_flight=5)
    assert texts.taken == 0
    for result in itertools.islice(stream, 100):
        assert texts.taken - result.index - 1 <= 5
    stream.close()
    assert texts.taken <= 105


def test_leaving_the_loop_leaves_no_threads(server_address: str) -> None:
    taken = threading.Semaphore(0)

    def items() -> Iterator[object]:
        yield "good"
        while True:
            taken.release()
            yield Path("/missing.txt")

    before = set(threading.enumerate())
    with Client(server_address) as client:
        for _ in client.embed_stream(TEXT, items(), in_flight=4):
            # As many as may be in flight are: whoever takes the next one waits.
            for _ in range(4):
                assert taken.acquire(timeout=JOIN_TIMEOUT_S)
            break
    assert_ended(set(threading.enumerate()) - before)


def test_results_come_while_the_items_wait(client: Client) -> None:
    """Each text is made from the answer to the one before it."""
    answers: queue.SimpleQueue[str] = queue.SimpleQueue()

    def texts() -> Iterator[str]:
        yield "first"
        for _ in range(5):
            yield answers.get(timeout=JOIN_TIMEOUT_S)

    seen = []
    for result in client.embed_stream(TEXT, texts()):
        seen.append(result.item)
        answers.put(f"after {result.item}")
    assert len(seen) == 6
    assert seen[-1] == "after " * 5 + "first"


def test_items_that_fail_here_come_while_the_items_wait(client: Client) -> None:
    answers: queue.SimpleQueue[Path] = queue.SimpleQueue()

    def paths() -> Iterator[Path]:
        yield Path("/missing/first.txt")
        yield answers.get(timeout=JOIN_TIMEOUT_S)

    for result in client.embed_stream(TEXT, paths()):
        assert result.error is not None
        answers.put(Path("/missing/second.txt"))


def test_many_items_that_fail_here_do_not_block(client: Client) -> None:
    paths = [Path(f"/missing/{number}.txt") for number in range(200)]
    results = list(client.embed_stream(TEXT, [*paths, "good"], in_flight=4))
    assert [result.index for result in results] == list(range(201))
    assert [result.error is None for result in results] == [False] * 200 + [True]


def test_results_hold_their_item_and_what_became_of_it(client: Client, photo: Path) -> None:
    items = ["a text", Item("word " * 400, id="long"), photo, Item("b", version="99")]
    text, long, image, version = client.embed_stream(TEXT, items)
    assert [r.item for r in (text, long, image, version)] == items
    assert [r.id for r in (text, long, image, version)] == ["0", "long", str(photo), "3"]
    assert text.token_count == 4
    assert not text.truncated
    assert text.version == "1"
    assert text.batch_size >= 1
    assert text.timings.compute_ms > 0
    assert long.truncated
    assert long.token_count == 256
    assert image.error is not None
    assert image.error.reason
    assert version.error is not None
    assert version.error.code == "NOT_FOUND"


def test_one_stream_carries_several_models(client: Client, photo: Path, speech: Path) -> None:
    items = [
        "a text",
        Item(photo, model="resnet-50"),
        Item(speech, model=AUDIO),
        Item("a text", model="clip-vit-base-patch32"),
        Item(photo.read_bytes(), model="clip-vit-base-patch32"),
        Item("a text", model="no-such-model"),
        Item(photo.read_bytes(), model="no-such-model"),
    ]
    results = list(client.embed_stream(TEXT, items))
    assert [0 if r.error else r.vector.size for r in results] == [384, 2048, 512, 512, 512, 0, 0]
    assert [r.error.code for r in results if r.error] == ["NOT_FOUND", "NOT_FOUND"]


def test_the_call_need_not_name_a_model_where_the_items_do(client: Client, photo: Path) -> None:
    items = [
        Item("a text", model=TEXT),
        Item(photo.read_bytes(), model="resnet-50"),
        "names none",
        Item(photo.read_bytes(), id="mine"),
    ]
    for stream in (client.embed_stream(items), client.embed_stream(None, items)):
        text, image, unnamed, mine = stream
        assert (text.vector.size, image.vector.size) == (384, 2048)
        assert unnamed.error is not None
        assert (unnamed.error.code, unnamed.error.reason) == ("INVALID_ARGUMENT", "NO_MODEL")
        assert mine.error is not None
        assert "[3] mine: neither the item nor the call names a model" in str(mine.error)
    with pytest.raises(TypeError, match="in a list"):
        client.embed_stream("a text")
    with pytest.raises(TypeError, match="not a list"):
        client.embed_stream(items, items)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="version"):
        client.embed_stream(items, version="1")


def test_bytes_that_may_be_two_things_must_be_wrapped(client: Client, photo: Path) -> None:
    data = photo.read_bytes()
    with pytest.raises(TypeError, match="a str"):
        list(client.embed_stream(TEXT, [data]))
    (result,) = client.embed_stream("resnet-50", [Image(data)])
    assert result.error is None


def test_unordered_results_do_not_wait(client: Client) -> None:
    # Three windows, each of which takes longer than all texts: these get a turn between them.
    long = ([0.0] * 8000 * 90, 8000)
    items = [Item(long, model=AUDIO), *(f"text {number}" for number in range(20))]
    in_order = [result.index for result in client.embed_stream(TEXT, items)]
    assert in_order == list(range(21))
    as_ready = [result.index for result in client.embed_stream(TEXT, items, ordered=False)]
    assert sorted(as_ready) == in_order
    assert as_ready[-1] == 0


def test_windows_each_have_their_span(client: Client) -> None:
    waveform = ([0.0] * 8000 * 35, 8000)
    (result,) = client.embed_stream(AUDIO, [waveform], windows="each")
    spans = [vector.span for vector in result.vectors]
    assert [(s.start_s, s.end_s) for s in spans if s] == [(0, 30), (30, 35)]
    with pytest.raises(ValueError, match="2 vectors"):
        _ = result.vector


def test_an_exception_in_the_items_reaches_the_caller_after_the_answers(client: Client) -> None:
    def texts() -> Iterator[str]:
        yield from ("a", "b")
        raise LookupError("out of texts")

    seen = []
    with pytest.raises(LookupError, match="out of texts"):
        for result in client.embed_stream(TEXT, texts()):
            seen.append(result.item)
    assert seen == ["a", "b"]


def test_wrong_arguments_are_refused_at_the_call(client: Client) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        client.embed_stream(TEXT, [], in_flight=0)
    with pytest.raises(ValueError, match="each, pooled"):
        client.embed_stream(TEXT, [], windows="all")  # type: ignore[call-overload]


def test_threads_share_a_client(client: Client) -> None:
    texts = [[f"thread {thread} text {number}" for number in range(50)] for thread in range(4)]
    rows: dict[int, object] = {}

    def work(thread: int) -> None:
        rows[thread] = client.embed(TEXT, texts[thread])

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(4):
        assert abs(rows[number] - client.embed(TEXT, texts[number])).max() < 1e-5


def test_a_server_that_stops_says_how_many_items_it_left(repository: Path, tmp_path: Path) -> None:
    (tmp_path / TEXT).symlink_to(repository / TEXT)
    texts = Counted()
    seen = []
    with ServerProcess(tmp_path) as process, Client(process.address) as client:
        with pytest.raises(ServerUnavailable, match="without an answer") as caught:
            for result in client.embed_stream(TEXT, texts, in_flight=32):
                seen.append(result)
                if result.index == 50:
                    process.terminate()
        assert process.wait() == 0
    assert all(result.error is None for result in seen)
    assert len({result.index for result in seen}) == len(seen)
    assert 1 <= caught.value.unanswered <= 32
    assert len(seen) + caught.value.unanswered <= texts.taken
