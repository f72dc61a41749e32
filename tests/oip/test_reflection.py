"""Reflection, as v1alpha and as v1: every service is listed and described."""

import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest

SERVICES = {
    "vecserve.v1.EmbeddingService",
    "inference.GRPCInferenceService",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
}


@pytest.mark.parametrize("protocol", ["grpc-v1", "grpc-v1alpha"])
def test_buf_curl_lists_and_calls(server_address: str, protocol: str) -> None:
    buf = (str(Path(sys.executable).parent / "buf"), "curl", "--http2-prior-knowledge")
    common = (*buf, "--protocol", "grpc", "--reflect", "--reflect-protocol", protocol)
    listed = _run(*common, "--list-methods", f"http://{server_address}")
    assert "inference.GRPCInferenceService/ModelStreamInfer" in listed
    assert "vecserve.v1.EmbeddingService/EmbedStream" in listed
    url = f"http://{server_address}/inference.GRPCInferenceService"
    ready = _run(*common, "--data", '{"name": "resnet-50"}', f"{url}/ModelReady")
    assert json.loads(ready) == {"ready": True}
    item = base64.b64encode(b"a sentence").decode()
    tensor = {"name": "text", "datatype": "BYTES", "shape": [1, 1]}
    request = {
        "modelName": "all-MiniLM-L6-v2",
        "inputs": [tensor | {"contents": {"bytesContents": [item]}}],
    }
    answer = json.loads(_run(*common, "--data", json.dumps(request), f"{url}/ModelInfer"))
    assert answer["outputs"][0]["shape"] == ["1", "384"]


def test_grpcurl_lists_describes_and_calls(server_address: str) -> None:
    grpcurl = (str(Path(sys.executable).parent / "grpcurl"), "-plaintext")
    assert set(_run(*grpcurl, server_address, "list").split()) == SERVICES
    for service in SERVICES:
        assert "is a service" in _run(*grpcurl, server_address, "describe", service)
    ready = _run(*grpcurl, server_address, "inference.GRPCInferenceService/ServerReady")
    assert json.loads(ready) == {"ready": True}


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout
