"""Start, readiness, and an end that loses nothing."""

import json
import shutil
import signal
import urllib.request
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.contract.embedding.requests import (
    MINILM,
    WHISPER,
    Sender,
    audio,
    embed,
    message,
    rpc_error,
    text,
    vector,
)
from tests.support.server_process import ServerProcess, run_server
from vecserve.v1 import embedding_pb2 as pb
from vecserve.v1 import model_pb2
from vecserve.v1.embedding_pb2_grpc import EmbeddingServiceStub

MakeRepository = Callable[..., Path]
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def test_health_follows_readiness(repository_of: MakeRepository) -> None:
    # Listening comes before loading: a probe gets an answer from then on.
    with ServerProcess(repository_of(WHISPER), until="listening on") as server:
        channel = grpc.insecure_channel(server.address)
        health = health_pb2_grpc.HealthStub(channel)
        watch = health.Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == NOT_SERVING
        assert next(watch).status == SERVING
        server.wait_for_log("serving 1 models, ready")
        for name in (WHISPER, "vecserve.v1.EmbeddingService"):
            request = health_pb2.HealthCheckRequest(service=name)
            assert health.Check(request).status == SERVING
        server.terminate()
        assert next(watch).status == NOT_SERVING
        watch.cancel()
        channel.close()


def test_a_model_that_loads_is_listed_but_unavailable(repository_of: MakeRepository) -> None:
    with (
        ServerProcess(repository_of(WHISPER), until="listening on") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = EmbeddingServiceStub(channel)
        (model,) = stub.ListModels(pb.ListModelsRequest()).models
        assert model.state == model_pb2.MODEL_STATE_LOADING
        with pytest.raises(grpc.RpcError) as failure:
            embed(stub, WHISPER, text("a"))
        assert rpc_error(failure.value)[:2] == ("UNAVAILABLE", "MODEL_LOADING")
        server.wait_for_log("ready")


def test_untrained_models_say_so_in_the_log(server: ServerProcess) -> None:
    lines = [line for line in server.log.splitlines() if " ready: " in line]
    # SSCD, too, where it could be fetched.
    assert len(lines) in (4, 5)
    for line in lines:
        assert ("UNTRAINED" in line) == ("resnet-50 " in line or "clip" in line)


def test_metrics_count_answers_and_batches(repository_of: MakeRepository) -> None:
    with (
        ServerProcess(repository_of(MINILM)) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = EmbeddingServiceStub(channel)
        embed(stub, MINILM, text("a", "one"), text("b", "one two three"), pb.Item(item_id="c"))
        with urllib.request.urlopen(server.metrics_url) as response:
            page = response.read().decode()
    assert f'vecserve_items_total{{code="OK",model="{MINILM}"}} 2.0' in page
    assert f'vecserve_items_total{{code="INVALID_ARGUMENT",model="{MINILM}"}} 1.0' in page
    assert f'vecserve_item_compute_seconds_count{{model="{MINILM}"}} 2.0' in page
    graph = f"{MINILM}/1/text"
    assert f'vecserve_positions_total{{graph="{graph}",kind="input"}} 8.0' in page
    assert f'vecserve_unanswered_items{{graph="{graph}"}} 0.0' in page


def test_sigterm_answers_what_was_accepted(
    repository_of: MakeRepository, speech: list[bytes]
) -> None:
    with ServerProcess(repository_of(WHISPER, MINILM)) as server:
        channel = grpc.insecure_channel(server.address)
        stub = EmbeddingServiceStub(channel)
        sender = Sender()
        responses = stub.EmbedStream(iter(sender))
        # Once the quick one is answered, the slow ones before it are accepted.
        sender.send(message(WHISPER, *(audio(str(n), speech[0]) for n in range(6))))
        sender.send(message(MINILM, text("last")))
        unary = stub.Embed.future(pb.EmbedRequest(model=WHISPER, items=[audio("unary", speech[0])]))
        answered = []
        for response in responses:
            answered += response.results
            if any(result.item_id == "last" for result in answered):
                break
        server.terminate()
        with pytest.raises(grpc.RpcError) as failure:
            for response in responses:
                answered += response.results
        assert rpc_error(failure.value)[:2] == ("UNAVAILABLE", "SHUTTING_DOWN")
        assert sorted(result.item_id for result in answered) == [*"012345", "last"]
        assert all(vector(result) is not None for result in answered)
        assert vector(unary.result().results[0]).shape == (512,)
        channel.close()
        assert server.wait() == 0
        assert server.log.rstrip().endswith("stopped")


def test_a_second_signal_ends_at_once(repository_of: MakeRepository, long_speech: bytes) -> None:
    with ServerProcess(repository_of(WHISPER)) as server:
        channel = grpc.insecure_channel(server.address)
        stub = EmbeddingServiceStub(channel)
        call = stub.EmbedStream(message(WHISPER, audio(str(n), long_speech)) for n in range(20))
        next(call)
        server.terminate()
        server.wait_for_log("stopping")
        server.terminate()
        assert server.wait() == -signal.SIGTERM
        channel.close()


def test_starts_that_are_refused_say_what_to_do(
    repository_of: MakeRepository, repository: Path, tmp_path: Path, server: ServerProcess
) -> None:
    missing = run_server(["--repository", str(tmp_path / "nowhere")])
    assert missing.returncode == 1
    assert "vecserve-export" in missing.stderr

    empty = run_server(["--repository", str(tmp_path)])
    assert empty.returncode == 1
    assert "holds no bundle" in empty.stderr

    wrong_flag = run_server(["--port", "99999"])
    assert wrong_flag.returncode == 2
    assert "--port" in wrong_flag.stderr

    port = server.address.split(":")[1]
    taken = run_server(["--repository", str(repository), "--port", port, "--metrics-port", "0"])
    assert taken.returncode == 1
    assert "is another server there? choose one with --port" in taken.stderr
    for refused in (missing, empty, wrong_flag, taken):
        assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("change", "is not the file that was exported"),
        ("remove", "is missing"),
        ("manifest", "cannot read"),
        ("rename", "move it to the folder"),
    ],
)
def test_a_damaged_bundle_is_refused(
    repository: Path, tmp_path: Path, damage: str, says: str
) -> None:
    bundle = tmp_path / MINILM / "1"
    shutil.copytree(repository / MINILM / "1", bundle)
    manifest = bundle / "manifest.json"
    match damage:
        case "change":
            with (bundle / "text.onnx").open("r+b") as file:
                file.write(b"\0")
        case "remove":
            (bundle / "tokenizer.json").unlink()
        case "manifest":
            manifest.write_text(json.dumps({"format": 2}))
        case "rename":
            bundle.rename(tmp_path / MINILM / "2")
    refused = run_server(["--repository", str(tmp_path), "--port", "0", "--metrics-port", "0"])
    assert refused.returncode == 1
    assert says in refused.stderr
    assert "Traceback" not in refused.stderr
