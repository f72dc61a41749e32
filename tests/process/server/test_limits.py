"""The bounds that flags set: what is beyond them is refused, and says for how long."""

from collections.abc import Callable
from pathlib import Path

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tests.contract.embedding.requests import (
    MINILM,
    RESNET,
    WHISPER,
    error,
    image,
    refused,
    result_of,
    rpc_error,
    text,
    vector,
)
from tests.support.server_process import ServerProcess
from vecserve.v1 import embedding_pb2 as pb
from vecserve.v1.embedding_pb2_grpc import EmbeddingServiceStub


def test_a_text_over_the_byte_limit(stub: EmbeddingServiceStub) -> None:
    code, _, sentence = error(result_of(stub, MINILM, text("a", "x" * (1024 * 1024 + 1))))
    assert code == "INVALID_ARGUMENT"
    assert "1048576" in sentence.replace(",", "")


def test_the_longest_audio_is_half_an_hour(stub: EmbeddingServiceStub) -> None:
    model = stub.GetModel(pb.GetModelRequest(model=WHISPER)).model
    assert model.modalities[0].max_seconds == 1800


def test_a_full_queue_refuses_and_says_when_to_come_back(
    repository_of: Callable[..., Path], images: list[bytes]
) -> None:
    # One MiB of waiting images of 150,528 bytes each: 6 of them.
    with (
        ServerProcess(repository_of(RESNET), "--max-queue-mb", "1") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = EmbeddingServiceStub(channel)

        def request(count: int) -> pb.EmbedRequest:
            items = [image(str(n), images[0]) for n in range(count)]
            return pb.EmbedRequest(model=RESNET, items=items)

        calls = [stub.Embed.future(request(6)) for _ in range(8)]
        failures = []
        for call in calls:
            try:
                assert len([vector(result) for result in call.result().results]) == 6
            except grpc.RpcError as failure:
                failures.append(failure)
        assert 1 <= len(failures) < 8
        assert rpc_error(failures[0])[:2] == ("RESOURCE_EXHAUSTED", "QUEUE_FULL")
        retry = error_details_pb2.RetryInfo()
        assert rpc_status.from_call(failures[0]).details[1].Unpack(retry)
        assert refused(stub, request(7))[:2] == ("INVALID_ARGUMENT", "TOO_MANY_ITEMS")
