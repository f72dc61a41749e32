"""--provider: chosen a model at a time; what cannot be had is said at the start."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import pytest

MINILM = "all-MiniLM-L6-v2"


def refusal(repository: Path, provider: str) -> str:
    """Start a server that must not come up and return what it says last."""
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "vecserve_server"),
            *("--repository", str(repository), "--port", "0", "--metrics-port", "0"),
            *("--provider", provider),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode != 0
    assert "Traceback" not in ended.stderr
    return ended.stderr.splitlines()[-1]


@pytest.mark.skipif(
    "OpenVINOExecutionProvider" in onnxruntime.get_available_providers(),
    reason="this ONNX Runtime has OpenVINO",
)
def test_openvino_that_is_not_installed(repository_of: Callable[..., Path]) -> None:
    said = refusal(repository_of(MINILM), f"{MINILM}=openvino")
    assert "install vecserve[server,openvino]" in said


def test_model_that_is_not_there(repository_of: Callable[..., Path]) -> None:
    said = refusal(repository_of(MINILM), "no-such-model=openvino")
    assert "--provider names no-such-model" in said
    assert MINILM in said


def test_provider_that_is_none(repository_of: Callable[..., Path]) -> None:
    said = refusal(repository_of(MINILM), f"{MINILM}=abacus")
    assert "'cpu' or 'openvino'" in said
