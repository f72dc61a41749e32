"""Messages of very many small parts are refused before they become objects."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from tritonclient.grpc import service_pb2 as oip

from tests.contract.embedding.requests import MINILM, TIMEOUT_S, embed, rpc_error, text, vector
from tests.support.server_process import ServerProcess
from vecserve.v1.embedding_pb2_grpc import EmbeddingServiceStub

MANY = 8_000_000
INFER = "/inference.GRPCInferenceService/ModelInfer"
INFER_STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
EMBED = "/vecserve.v1.EmbeddingService/Embed"
EMBED_STREAM = "/vecserve.v1.EmbeddingService/EmbedStream"
MODEL: bytes = oip.ModelInferRequest(model_name=MINILM).SerializeToString()


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number: int, data: bytes) -> bytes:
    """A field that has its length before it."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def text_input(elements: int, rest: bytes = b"", datatype: str = "BYTES") -> bytes:
    tensor = oip.ModelInferRequest.InferInputTensor(
        name="text", datatype=datatype, shape=[elements]
    )
    return MODEL + field(5, tensor.SerializeToString() + rest)


@pytest.fixture(scope="module")
def small_server(repository_of: Callable[..., Path]) -> Iterator[ServerProcess]:
    with ServerProcess(repository_of(MINILM)) as server:
        yield server


def peak_mb(server: ServerProcess) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1]) // 1024


@pytest.mark.parametrize(
    ("method", "data", "reason", "says"),
    [
        (INFER, MODEL + b"\x2a\x00" * MANY, "MESSAGE_TOO_COMPLEX", "up to inputs"),
        (INFER, MODEL + b"\x32\x00" * MANY, "MESSAGE_TOO_COMPLEX", "up to outputs"),
        (INFER, MODEL + b"\x22\x00" * MANY, "MESSAGE_TOO_COMPLEX", "up to parameters"),
        (INFER, MODEL + b"\x3a\x00" * MANY, "MESSAGE_TOO_COMPLEX", "up to raw_input_contents"),
        (INFER, MODEL + b"\x2a\x00" * 2000, "MESSAGE_TOO_COMPLEX", "2000 inputs"),
        (
            INFER,
            text_input(MANY, field(5, b"\x42\x00" * MANY)),
            "MESSAGE_TOO_COMPLEX",
            "up to inputs",
        ),
        (
            INFER,
            text_input(2 * MANY, field(5, field(3, b"\x01" * 2 * MANY)), "INT64"),
            "MESSAGE_TOO_COMPLEX",
            "4,194,304 numbers in inputs",
        ),
        (INFER, text_input(1, field(3, b"\x01" * 2 * MANY)), "MESSAGE_TOO_COMPLEX", "numbers"),
        (INFER, text_input(MANY) + field(7, bytes(4 * MANY)), "TOO_MANY_ITEMS", "takes 256"),
        (INFER_STREAM, MODEL + b"\x2a\x00" * MANY, "MESSAGE_TOO_COMPLEX", "up to inputs"),
        (EMBED, MODEL + b"\x1a\x00" * MANY, "MESSAGE_TOO_COMPLEX", "up to items"),
        (EMBED, MODEL + b"\x1a\x00" * 70_000, "TOO_MANY_ITEMS", "70000 items"),
        (EMBED, MODEL + b"\x22\x00" * MANY, "MESSAGE_TOO_COMPLEX", "up to options"),
        (EMBED, MODEL + b"\x78\x00" * MANY, "MESSAGE_TOO_COMPLEX", "up to field 15"),
        (EMBED_STREAM, MODEL + b"\x1a\x00" * MANY, "MESSAGE_TOO_COMPLEX", "up to items"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_message_of_very_many_parts_is_refused(
    small_server: ServerProcess, method: str, data: bytes, reason: str, says: str
) -> None:
    before = peak_mb(small_server)
    with (
        grpc.insecure_channel(small_server.address) as channel,
        pytest.raises(grpc.RpcError) as failure,
    ):
        if "Stream" in method:
            list(channel.stream_stream(method)(iter([data]), timeout=TIMEOUT_S))
        else:
            channel.unary_unary(method)(data, timeout=TIMEOUT_S)
    code, got, sentence = rpc_error(failure.value)
    assert (code, got) == ("INVALID_ARGUMENT", reason)
    assert says in sentence
    # What gRPC holds of 16 to 31 MiB, and no object for each of the parts.
    assert peak_mb(small_server) < before + 200


def test_after_them_the_server_answers(small_server: ServerProcess) -> None:
    with grpc.insecure_channel(small_server.address) as channel:
        (result,) = embed(EmbeddingServiceStub(channel), MINILM, text("a"))
    assert vector(result).shape == (384,)
