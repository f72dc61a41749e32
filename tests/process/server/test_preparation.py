"""Preparation of one caller's many items lets everybody else's in between."""

import os
from pathlib import Path

import grpc
import pytest

from tests.contract.embedding.requests import TIMEOUT_S, embed, message, text, vector
from tests.process.server.test_new_modality import NAME, write_series
from tests.support.server_process import ServerProcess
from vecserve.v1 import embedding_pb2 as pb
from vecserve.v1.embedding_pb2_grpc import EmbeddingServiceStub

MANY = 20_000


@pytest.mark.parametrize("streams", [False, True])
def test_a_call_of_many_items_is_prepared_in_turns_with_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streams: bool
) -> None:
    """A sentence that comes while the first of many items is prepared need not wait for all."""
    write_series(tmp_path)
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    monkeypatch.setenv("VECSERVE_TEST_GATE", str(gate))
    many = [text("held", "-1"), *(text(str(number), "1") for number in range(MANY))]
    with (
        ServerProcess(tmp_path, module="tests.support.gated_modality") as server,
        grpc.insecure_channel(server.address, [("grpc.max_receive_message_length", -1)]) as pouring,
        grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) as lone,
    ):
        stub = EmbeddingServiceStub(lone)
        embed(stub, NAME, text("connects", "2"))
        if streams:
            poured = EmbeddingServiceStub(pouring).EmbedStream(iter([message(NAME, *many)]))
        else:
            request = pb.EmbedRequest(model=NAME, items=many)
            poured = EmbeddingServiceStub(pouring).Embed.future(request)
        server.wait_for_log("preparing -1")
        asked = stub.Embed.future(
            pb.EmbedRequest(model=NAME, items=[text("lone", "3")]), timeout=TIMEOUT_S
        )
        gate.write_bytes(b"")
        assert vector(asked.result().results[0]).tolist() == [3, 0, 0, 0]
        before, _, _ = server.log.partition("preparing 3")
        results = (
            [result for response in poured for result in response.results]
            if streams
            else list(poured.result().results)
        )
    assert before.count("preparing 1\n") < MANY
    assert len(results) == len(many)
    if not streams:
        assert [result.item_id for result in results] == [item.item_id for item in many]
    assert all(result.WhichOneof("outcome") == "embedding" for result in results)
