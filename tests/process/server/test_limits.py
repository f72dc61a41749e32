"""The bounds that flags set: what is beyond them is refused, and says for how long."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import grpc
import PIL.Image
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tests.contract.embedding.requests import (
    MINILM,
    RESNET,
    TIMEOUT_S,
    WHISPER,
    embed,
    error,
    image,
    refused,
    result_of,
    rpc_error,
    text,
    vector,
)
from tests.support import held_queue
from tests.support.server_process import ServerProcess
from vecserve.v1 import embedding_pb2 as pb
from vecserve.v1.embedding_pb2_grpc import EmbeddingServiceStub


def test_a_text_over_the_byte_limit(stub: EmbeddingServiceStub) -> None:
    code, _, sentence = error(result_of(stub, MINILM, text("a", "x" * (1024 * 1024 + 1))))
    assert code == "INVALID_ARGUMENT"
    assert "1048576" in sentence.replace(",", "")


def test_an_image_that_takes_long_to_decode(
    stub: EmbeddingServiceStub, images: list[bytes]
) -> None:
    file = BytesIO()
    PIL.Image.new("RGB", (4000, 4000), "red").save(file, "JPEG", progressive=True)
    start, end = b"\xff\xda", b"\xff\xd9"
    body, _, scan = file.getvalue().removesuffix(end).rpartition(start)
    slow = body + (start + scan) * 3000 + end
    refused, answered = embed(stub, RESNET, image("a", slow), image("b", images[0]))
    assert error(refused)[:2] == ("INVALID_ARGUMENT", "IMAGE_TOO_COMPLEX")
    assert len(vector(answered)) == 2048


def test_the_longest_audio_is_half_an_hour(stub: EmbeddingServiceStub) -> None:
    model = stub.GetModel(pb.GetModelRequest(model=WHISPER)).model
    assert model.modalities[0].max_seconds == 1800


def test_a_full_queue_refuses_and_says_when_to_come_back(
    repository_of: Callable[..., Path], images: list[bytes]
) -> None:
    # One MiB of waiting images of 150,528 bytes each: 6 of them; a batch has 8 rows.
    flags = ("--max-queue-mb", "1", *held_queue.FLAGS)
    with (
        ServerProcess(repository_of(RESNET), *flags) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = EmbeddingServiceStub(channel)

        def request(count: int) -> pb.EmbedRequest:
            items = [image(str(n), images[0]) for n in range(count)]
            return pb.EmbedRequest(model=RESNET, items=items)

        held = stub.Embed.future(request(6))
        unanswered = server.metric(f'vecserve_unanswered_items{{graph="{RESNET}/1/image"}}')
        while unanswered() != 6:
            pass
        with pytest.raises(grpc.RpcError) as failure:
            stub.Embed(request(1), timeout=TIMEOUT_S)
        assert rpc_error(failure.value)[:2] == ("RESOURCE_EXHAUSTED", "QUEUE_FULL")
        retry = error_details_pb2.RetryInfo()
        assert rpc_status.from_call(failure.value).details[1].Unpack(retry)
        assert refused(stub, request(7))[:2] == ("INVALID_ARGUMENT", "TOO_MANY_ITEMS")
        # What leaves makes room.
        held.cancel()
        while unanswered() != 0:
            pass
        results = stub.Embed(request(6), timeout=TIMEOUT_S).results
        assert len([vector(result) for result in results]) == 6
