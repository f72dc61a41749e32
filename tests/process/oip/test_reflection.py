"""grpcurl and buf curl, given no file: they list, describe and call everything.

grpcurl asks for reflection as v1alpha, buf curl for either.
"""

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BIN = Path(sys.executable).parent
GRPCURL = (str(BIN / "grpcurl"), "-plaintext")
BUF = (str(BIN / "buf"), "curl", "--http2-prior-knowledge", "--protocol", "grpc")

OIP = "inference.GRPCInferenceService"
TYPED = "vecserve.v1.EmbeddingService"
MINILM = "all-MiniLM-L6-v2"
EMBED = {"model": MINILM, "items": [{"itemId": "a", "text": "a sentence"}]}
SENTENCE = {"bytesContents": [base64.b64encode(b"a sentence").decode()]}
TEXT = {"name": "text", "datatype": "BYTES", "shape": [1, 1], "contents": SENTENCE}
INFER = {"modelName": MINILM, "inputs": [TEXT]}
LIST = {"listServices": ""}
# By method: what is sent, and some words of the answer.
CALLS: dict[str, tuple[dict[str, Any], str]] = {
    f"{TYPED}/Embed": (EMBED, '"data"'),
    f"{TYPED}/EmbedStream": (EMBED, '"data"'),
    f"{TYPED}/ListModels": ({}, MINILM),
    f"{TYPED}/GetModel": ({"model": MINILM}, MINILM),
    f"{OIP}/ServerLive": ({}, "true"),
    f"{OIP}/ServerReady": ({}, "true"),
    f"{OIP}/ModelReady": ({"name": MINILM}, "true"),
    f"{OIP}/ServerMetadata": ({}, "vecserve"),
    f"{OIP}/ModelMetadata": ({"name": MINILM}, "embedding"),
    f"{OIP}/ModelInfer": (INFER, "384"),
    f"{OIP}/ModelStreamInfer": (INFER, "384"),
    f"{OIP}/ModelConfig": ({"name": MINILM}, "TYPE_STRING"),
    f"{OIP}/ModelStatistics": ({"name": MINILM}, MINILM),
    f"{OIP}/RepositoryIndex": ({}, "READY"),
    f"{OIP}/RepositoryModelLoad": ({"modelName": "gpt"}, "the repository holds no model 'gpt'"),
    f"{OIP}/RepositoryModelUnload": ({"modelName": "gpt"}, "this server has no model 'gpt'"),
    f"{OIP}/SystemSharedMemoryStatus": ({}, "{"),
    f"{OIP}/SystemSharedMemoryRegister": ({"name": "a"}, "region 'a' has no bytes"),
    f"{OIP}/SystemSharedMemoryUnregister": ({"name": "a"}, "{"),
    f"{OIP}/CudaSharedMemoryStatus": ({}, "{"),
    f"{OIP}/CudaSharedMemoryRegister": ({"name": "a"}, "GPUs not supported"),
    f"{OIP}/CudaSharedMemoryUnregister": ({}, "{"),
    f"{OIP}/TraceSetting": ({}, "the server does not support tracing"),
    f"{OIP}/LogSettings": ({}, "the server does not support dynamic logging"),
    "grpc.health.v1.Health/Check": ({"service": MINILM}, "SERVING"),
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo": (LIST, TYPED),
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": (LIST, TYPED),
}
# This one does not end by itself.
METHODS = {*CALLS, "grpc.health.v1.Health/Watch"}
SERVICES = {method.partition("/")[0] for method in METHODS}


def test_grpcurl_lists_and_describes_everything(server_address: str) -> None:
    assert set(run(*GRPCURL, server_address, "list").split()) == SERVICES
    for service in SERVICES:
        listed = run(*GRPCURL, server_address, "list", service).split()
        assert set(listed) == {
            method.replace("/", ".") for method in METHODS if method.startswith(service)
        }
        assert "is a service" in run(*GRPCURL, server_address, "describe", service)
        for method in listed:
            assert "is a method" in run(*GRPCURL, server_address, "describe", method)


def test_grpcurl_calls_everything(server_address: str) -> None:
    for method, (request, words) in CALLS.items():
        done = run_anyhow(*GRPCURL, "-d", json.dumps(request), server_address, method)
        assert words in done, method


@pytest.mark.parametrize("reflection", ["grpc-v1", "grpc-v1alpha"])
def test_buf_curl_lists_and_calls_everything(server_address: str, reflection: str) -> None:
    buf = (*BUF, "--reflect", "--reflect-protocol", reflection)
    url = f"http://{server_address}"
    assert set(run(*buf, "--list-methods", url).split()) == METHODS
    for method, (request, words) in CALLS.items():
        done = run_anyhow(*buf, "--data", json.dumps(request), f"{url}/{method}")
        assert words in done, method


def run(*command: str) -> str:
    """What a command that must succeed prints."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_anyhow(*command: str) -> str:
    """What a command prints, an error included."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr
