"""Failures of the whole call: each has its class and says what to do."""

import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from tests.support.server_process import ServerProcess
from vecserve import (
    Client,
    DeadlineExceeded,
    ModelNotFound,
    ServerError,
    ServerUnavailable,
    VecserveError,
)

TEXT = "all-MiniLM-L6-v2"


@pytest.fixture
def nobody() -> Iterator[Client]:
    with Client("127.0.0.1:1") as client:
        yield client


def test_no_server(nobody: Client) -> None:
    calls: list[Callable[[], object]] = [
        nobody.models,
        lambda: nobody.model(TEXT),
        lambda: nobody.embed(TEXT, ["a"]),
        lambda: list(nobody.embed_stream(TEXT, ["a"])),
    ]
    for call in calls:
        with pytest.raises(ServerUnavailable, match=r"127\.0\.0\.1:1.*`vecserve-server`"):
            call()


def test_another_server(server_address: str) -> None:
    other = grpc.server(ThreadPoolExecutor(1))
    port = other.add_insecure_port("127.0.0.1:0")
    other.start()
    try:
        with (
            Client(f"127.0.0.1:{port}") as client,
            pytest.raises(ServerError, match=r"does not speak vecserve\.v1") as caught,
        ):
            client.models()
    finally:
        other.stop(None).wait()
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.code) == (str(caught.value), "UNIMPLEMENTED")


@pytest.fixture
def open_stream() -> Iterator[Callable[[], Iterator[str]]]:
    """Items that stay open after the first until the test ends."""
    done = threading.Event()

    def items() -> Iterator[str]:
        yield "a text"
        done.wait()

    yield items
    done.set()


def test_a_connection_that_is_too_old_is_said_to_be(
    repository_of: Callable[..., Path], open_stream: Callable[[], Iterator[str]]
) -> None:
    flags = ("--max-connection-age-s", "1", "--shutdown-grace-s", "5")
    with ServerProcess(repository_of(TEXT), *flags) as server, Client(server.address) as client:
        results = client.embed_stream(TEXT, open_stream())
        next(results)
        with pytest.raises(ServerUnavailable) as caught:
            next(results)
        said = str(caught.value)
        assert said.startswith(f"{server.address} ended the connection for its age")
        assert "--max-connection-age-s" in said
        assert "may be sent again" in said
        # What it says is true.
        assert client.embed(TEXT, ["a text"]).shape == (1, 384)


def test_a_server_that_is_lost_is_said_to_be(
    repository_of: Callable[..., Path], open_stream: Callable[[], Iterator[str]]
) -> None:
    with ServerProcess(repository_of(TEXT)) as server, Client(server.address) as client:
        results = client.embed_stream(TEXT, open_stream())
        next(results)
        server.kill()
        with pytest.raises(ServerUnavailable, match=r"was lost.*may be sent again"):
            next(results)


def test_a_server_that_shuts_down_is_said_to() -> None:
    """gRPC cancels a call that comes while a server shuts down."""

    def cancel(_: bytes, context: grpc.ServicerContext) -> None:
        context.abort(grpc.StatusCode.CANCELLED, "CANCELLED")

    server = grpc.server(ThreadPoolExecutor(1))
    methods = {"ListModels": grpc.unary_unary_rpc_method_handler(cancel)}
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("vecserve.v1.EmbeddingService", methods)]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with (
            Client(f"127.0.0.1:{port}") as client,
            pytest.raises(ServerUnavailable, match=r"shuts down: .* may be sent again"),
        ):
            client.models()
    finally:
        server.stop(None).wait()


def test_no_time(client: Client) -> None:
    def texts() -> Iterator[str]:
        while True:
            yield "a text"

    client.models()  # there is a server: what follows is no missing one
    with pytest.raises(DeadlineExceeded, match="within the timeout"):
        for _ in client.embed_stream(TEXT, texts(), timeout=0.2):
            pass


def test_an_unknown_model_lists_the_known(client: Client) -> None:
    with pytest.raises(ModelNotFound, match=TEXT):
        client.model("no-such-model")


def test_one_base_class() -> None:
    assert issubclass(ServerUnavailable, VecserveError)
    assert not issubclass(VecserveError, OSError)


def test_models_say_what_they_are(client: Client) -> None:
    models = {model.name: model for model in client.models()}
    text = models[TEXT]
    assert client.model(TEXT) == client.model(TEXT, "1") == text
    assert (text.state, text.trained, text.dimensions) == ("ready", True, 384)
    assert text.modalities[0].max_tokens == 256
    assert text.modalities[0].outputs[0].pooling == "mean"
    assert text.modalities[0].outputs[0].normalized
    assert text.takes("text")
    assert not text.takes("image")
    assert models["whisper-base"].modalities[0].window_seconds == 30
    assert {own.name for own in models["clip-vit-base-patch32"].modalities} == {"text", "image"}
