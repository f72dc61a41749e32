"""Memory comes back as soon as an item is answered, not when the garbage collector comes."""

import re
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np

from tests.contract.embedding.requests import WHISPER
from tests.support.server_process import ServerProcess
from vecserve.v1 import embedding_pb2 as pb
from vecserve.v1.embedding_pb2_grpc import EmbeddingServiceStub

RATE_HZ, SECONDS, ITEMS, ROUNDS = 16_000, 300, 3, 8
# As the server keeps it: float32.
ROUND_MB = ITEMS * SECONDS * RATE_HZ * 4 / 1e6


def test_items_that_miss_their_deadline_leave_nothing_behind(
    repository_of: Callable[..., Path],
) -> None:
    samples = np.random.default_rng(0).integers(-3000, 3000, SECONDS * RATE_HZ, dtype=np.int16)
    pcm = pb.PcmAudio(
        samples=samples.tobytes(), format=pb.SAMPLE_FORMAT_S16LE, sample_rate_hz=RATE_HZ
    )
    request = pb.EmbedRequest(
        model=WHISPER, items=[pb.Item(item_id=str(number), pcm=pcm) for number in range(ITEMS)]
    )
    # Ten windows an item cannot be computed in that time, some of them can.
    request.options.timeout.FromMilliseconds(1000)
    with (
        ServerProcess(repository_of(WHISPER)) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = EmbeddingServiceStub(channel)

        def memory_mb() -> float:
            answer = stub.Embed(request)
            assert {result.error.code for result in answer.results} == {4}, "DEADLINE_EXCEEDED"
            status = Path(f"/proc/{server.process.pid}/status").read_text()
            found = re.search(r"VmRSS:\s+(\d+) kB", status)
            assert found
            return int(found[1]) / 1000

        memory = [memory_mb() for _ in range(ROUNDS)]
    assert memory[-1] - memory[0] < 3 * ROUND_MB, memory
