"""What runs the models: chosen for all or for one; what cannot be had is said at the start.

Each build of ONNX Runtime refuses what the others have. To see all of it, run this file in an
environment of each: vecserve[server,cpu], vecserve[server,gpu], vecserve[server,openvino].
"""

import ctypes
import json
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import pytest

from tests.support.server_process import ServerProcess, run_server

MINILM = "all-MiniLM-L6-v2"
EXTRAS = {"cuda": "gpu", "openvino": "openvino"}
BUILT_IN = {
    "cpu": True,
    "cuda": "CUDAExecutionProvider" in onnxruntime.get_available_providers(),
    "openvino": "OpenVINOExecutionProvider" in onnxruntime.get_available_providers(),
}
# What comes with another build than the one installed here.
ELSEWHERE = [provider for provider in EXTRAS if not BUILT_IN[provider]]


def has_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def refusal(repository: Path, *flags: str) -> str:
    """Start a server that must not come up and return what it says last."""
    ended = run_server(
        ["--repository", str(repository), "--port", "0", "--metrics-port", "0", *flags]
    )
    assert ended.returncode != 0
    assert "Traceback" not in ended.stderr
    return ended.stderr.splitlines()[-1]


def placement(repository: Path, *flags: str) -> str:
    """Start a server and return where the log says that nodes landed, and why."""
    with ServerProcess(repository, *flags) as process:
        lines = process.log.splitlines()
    return "\n".join(line for line in lines if " nodes on " in line or " WARNING " in line)


@pytest.fixture
def minilm(repository_of: Callable[..., Path]) -> Path:
    return repository_of(MINILM)


@pytest.fixture
def configured(repository: Path, tmp_path: Path) -> Callable[..., Path]:
    """Makes a repository of MiniLM with a config.json beside it."""

    def make(**config: object) -> Path:
        (tmp_path / MINILM).mkdir()
        (tmp_path / MINILM / "1").symlink_to(repository / MINILM / "1")
        (tmp_path / MINILM / "config.json").write_text(json.dumps(config))
        return tmp_path

    return make


@pytest.mark.parametrize("provider", ELSEWHERE)
@pytest.mark.parametrize("flag", ["--provider={}", "--require-provider={}", "--provider=*={}"])
def test_provider_of_another_build(minilm: Path, provider: str, flag: str) -> None:
    said = refusal(minilm, flag.replace("*", MINILM).format(provider))
    assert f"install vecserve[server,{EXTRAS[provider]}]" in said


@pytest.mark.skipif(
    BUILT_IN["cuda"] or BUILT_IN["openvino"], reason="another build of ONNX Runtime"
)
def test_the_build_for_cpus_runs_on_the_cpu(minilm: Path) -> None:
    said = placement(minilm)
    assert "nodes on cpu" in said
    assert "WARNING" not in said


@pytest.mark.skipif(not BUILT_IN["cuda"] or has_driver(), reason="needs CUDA, and no driver")
@pytest.mark.parametrize("flag", ["--provider", "--require-provider"])
def test_cuda_without_a_driver_is_refused(minilm: Path, flag: str) -> None:
    assert "no NVIDIA driver" in refusal(minilm, flag, "cuda")


@pytest.mark.skipif(not BUILT_IN["cuda"] or has_driver(), reason="needs CUDA, and no driver")
def test_without_a_driver_and_a_word_it_warns_once(repository_of: Callable[..., Path]) -> None:
    said = placement(repository_of(MINILM, "resnet-50"))
    assert said.count("nodes on cpu") == 2
    assert said.count("WARNING") == 1
    assert "no NVIDIA driver" in said


@pytest.mark.skipif(not BUILT_IN["openvino"], reason="needs OpenVINO")
def test_openvino_is_the_best_of_its_build(minilm: Path) -> None:
    assert "nodes on openvino" in placement(minilm)


def test_cpu_for_all(minilm: Path) -> None:
    said = placement(minilm, "--provider", "cpu")
    assert "nodes on cpu" in said
    assert "WARNING" not in said


def test_one_model_goes_before_all(minilm: Path) -> None:
    flags = ("--provider", ELSEWHERE[0], "--provider", f"{MINILM}=cpu")
    assert "nodes on cpu" in placement(minilm, *flags)


def test_the_variable_reads_as_the_flags_do(minilm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VECSERVE_PROVIDER", f"{ELSEWHERE[0]},{MINILM}=cpu")
    assert "nodes on cpu" in placement(minilm)


def test_a_bundle_is_configured(configured: Callable[..., Path]) -> None:
    folder = configured(execution_provider=ELSEWHERE[0])
    # The file goes before what is said of all models, and after what is said of this one.
    assert "vecserve[server," in refusal(folder, "--provider", "cpu")
    assert "nodes on cpu" in placement(folder, "--provider", f"{MINILM}=cpu")


def test_a_bundle_is_configured_wrongly(configured: Callable[..., Path]) -> None:
    said = refusal(configured(max_batch_size=4))
    assert "config.json is no valid configuration: max_batch_size" in said


def test_one_model_elsewhere_than_required(configured: Callable[..., Path]) -> None:
    said = refusal(configured(execution_provider="cpu"), "--require-provider", "openvino")
    assert f"--require-provider openvino, but {MINILM} is to run on cpu" in said


def test_model_that_is_not_there(minilm: Path) -> None:
    said = refusal(minilm, "--provider", "no-such-model=cpu")
    assert "--provider names no-such-model" in said
    assert MINILM in said


@pytest.mark.parametrize("choice", ["abacus", f"{MINILM}=abacus"])
def test_provider_that_is_none(minilm: Path, choice: str) -> None:
    assert refusal(minilm, "--provider", choice) == (
        "vecserve-server: --provider: Input should be 'cpu', 'cuda' or 'openvino'"
    )
