"""Calls: how many may be open, and that each is counted once, by how it ended."""

import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tests.contract.embedding.requests import (
    MINILM,
    TIMEOUT_S,
    Sender,
    embed,
    message,
    rpc_error,
    text,
    vector,
)
from tests.process.oip.graphs import save_text_bundle
from tests.support import held_queue
from tests.support.server_process import ServerProcess
from vecserve.v1 import embedding_pb2 as pb
from vecserve.v1.embedding_pb2_grpc import EmbeddingServiceStub

EMBED = "vecserve.v1.EmbeddingService/Embed"
STREAM = "vecserve.v1.EmbeddingService/EmbedStream"
INFER = "inference.GRPCInferenceService/ModelInfer"
OWN = [("grpc.use_local_subchannel_pool", 1)]


class OpenStream:
    """A stream that is open: its first item is answered."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._sender = Sender()
        self._sender.send(message(MINILM, text("first")))
        self._call = EmbeddingServiceStub(channel).EmbedStream(
            iter(self._sender), timeout=TIMEOUT_S
        )
        vector(next(self._call).results[0])

    def close(self) -> None:
        self._sender.close()
        assert not list(self._call)


@pytest.fixture(scope="module")
def narrow(repository_of: Callable[..., Path]) -> Iterator[ServerProcess]:
    """A server of four calls, two a connection."""
    flags = ("--max-calls", "4", "--max-connection-calls", "2")
    with ServerProcess(repository_of(MINILM), *flags) as server:
        yield server


def test_a_connection_has_so_many_calls_and_the_next_waits(narrow: ServerProcess) -> None:
    with grpc.insecure_channel(narrow.address, OWN) as channel:
        streams = [OpenStream(channel), OpenStream(channel)]
        request = pb.EmbedRequest(model=MINILM, items=[text("waits")])
        waiting = EmbeddingServiceStub(channel).Embed.future(request, timeout=TIMEOUT_S)
        # Another connection's is answered meanwhile.
        with grpc.insecure_channel(narrow.address, OWN) as other:
            embed(EmbeddingServiceStub(other), MINILM, text("other"))
        assert not waiting.done()
        streams[0].close()
        vector(waiting.result().results[0])
        streams[1].close()


def test_all_clients_have_so_many_calls_and_the_next_is_refused(narrow: ServerProcess) -> None:
    with (
        grpc.insecure_channel(narrow.address, OWN) as first,
        grpc.insecure_channel(narrow.address, OWN) as second,
        grpc.insecure_channel(narrow.address, OWN) as third,
    ):
        streams = [OpenStream(channel) for channel in (first, first, second, second)]
        with pytest.raises(grpc.RpcError) as failure:
            embed(EmbeddingServiceStub(third), MINILM, text("one more"))
        assert rpc_error(failure.value)[:2] == ("RESOURCE_EXHAUSTED", "TOO_MANY_CALLS")
        retry = error_details_pb2.RetryInfo()
        assert rpc_status.from_call(failure.value).details[1].Unpack(retry)
        streams.pop().close()
        vector(embed(EmbeddingServiceStub(third), MINILM, text("one more"))[0])
        for stream in streams:
            stream.close()


def counted(server: ServerProcess) -> dict[str, float]:
    """Calls that have ended, by the labels of their counter."""
    with urllib.request.urlopen(server.metrics_url) as response:
        lines = response.read().decode().splitlines()
    name = "vecserve_calls_total"
    values = dict(line.rsplit(" ", 1) for line in lines if line.startswith(name))
    return {labels.removeprefix(name): float(value) for labels, value in values.items()}


def label(method: str, code: str, reason: str = "") -> str:
    return f'{{code="{code}",method="{method}",reason="{reason}"}}'


def test_every_call_is_counted_once(repository: Path, tmp_path: Path) -> None:
    save_text_bundle(tmp_path, "small", repository / MINILM / "1", max_batch_rows=4)
    with (
        ServerProcess(tmp_path, *held_queue.FLAGS) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = EmbeddingServiceStub(channel)
        unanswered = server.metric('vecserve_unanswered_items{graph="small/1/text"}')
        expected: dict[str, float] = {}

        def ended(method: str, code: str, reason: str = "") -> None:
            expected[label(method, code, reason)] = expected.get(label(method, code, reason), 0) + 1
            # A call is counted when it ends, which its client may hear of before.
            tries = (counted(server) for _ in range(1000))
            assert any(found == expected for found in tries), counted(server)

        def refused(method: str, data: bytes) -> None:
            with pytest.raises(grpc.RpcError):
                channel.unary_unary(f"/{method}")(data, timeout=TIMEOUT_S)

        embed(stub, "small", *map(text, "abcd"))
        ended(EMBED, "OK")
        refused(EMBED, pb.EmbedRequest(model="other", items=[text("a")]).SerializeToString())
        ended(EMBED, "NOT_FOUND", "MODEL_NOT_FOUND")
        refused(EMBED, pb.EmbedRequest(model="small").SerializeToString())
        ended(EMBED, "INVALID_ARGUMENT", "NO_ITEMS")
        refused(EMBED, b"\xff")
        ended(EMBED, "INVALID_ARGUMENT", "MALFORMED_MESSAGE")
        refused(INFER, b"")
        ended(INFER, "NOT_FOUND", "MODEL_NOT_FOUND")
        refused("vecserve.v1.EmbeddingService/None", b"")
        ended("unknown", "UNIMPLEMENTED")
        # Items fail in band; the stream that they came on does not.
        assert list(stub.EmbedStream(iter([message("other", text("a"))]), timeout=TIMEOUT_S))
        ended(STREAM, "OK")
        held = stub.Embed.future(pb.EmbedRequest(model="small", items=[text("a")]))
        while unanswered() != 1:
            pass
        held.cancel()
        ended(EMBED, "CANCELLED")
