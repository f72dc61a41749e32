"""Streams that a client opens and resets at once, as in CVE-2023-44487."""

import contextlib
import re
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import grpc

from tests.contract.embedding.requests import MINILM, embed, text, vector
from tests.support.server_process import ServerProcess
from vecserve.v1.embedding_pb2_grpc import EmbeddingServiceStub

STREAMS = 60_000
HEADERS, RESET, SETTINGS = 1, 3, 4
END_HEADERS, CANCEL = 4, 8
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A frame of HTTP/2 (RFC 9113, section 4.1)."""
    length = struct.pack(">I", len(payload))[1:]
    return length + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def literal(name: bytes, value: bytes) -> bytes:
    """A header that is not indexed (RFC 7541, section 6.2.2)."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


# :method POST and :scheme http are in the static table.
HEADER_BLOCK = b"\x83\x86" + b"".join(
    literal(name, value)
    for name, value in {
        b":path": b"/vecserve.v1.EmbeddingService/Embed",
        b":authority": b"test",
        b"content-type": b"application/grpc",
        b"te": b"trailers",
    }.items()
)


def resident_mb(server: ServerProcess) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1]) // 1024


def test_streams_that_are_reset_at_once_cost_little(repository_of: Callable[..., Path]) -> None:
    """Most are refused before they become calls: a connection has so many open."""
    with (
        ServerProcess(repository_of(MINILM)) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = EmbeddingServiceStub(channel)
        embed(stub, MINILM, text("connects"))
        before = resident_mb(server)
        host, port = server.address.split(":")
        with socket.create_connection((host, int(port))) as attacker:
            received = threading.Thread(target=drain, args=(attacker,))
            received.start()
            pairs = (
                frame(HEADERS, END_HEADERS, stream, HEADER_BLOCK)
                + frame(RESET, 0, stream, struct.pack(">I", CANCEL))
                for stream in range(1, 2 * STREAMS, 2)
            )
            # It may be cut off.
            with contextlib.suppress(OSError):
                attacker.sendall(PREFACE + frame(SETTINGS, 0, 0, b"") + b"".join(pairs))
            (result,) = embed(stub, MINILM, text("after"))
            with contextlib.suppress(OSError):
                attacker.shutdown(socket.SHUT_RDWR)
            received.join()
        assert vector(result).shape == (384,)
        assert resident_mb(server) < before + 200


def drain(connection: socket.socket) -> None:
    """Read what comes, so that the other end is never held up."""
    with contextlib.suppress(OSError):
        while connection.recv(1 << 16):
            pass
