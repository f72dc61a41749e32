"""`make bench-gpu` without a card: it refuses, or measures a dry run on the CPU."""

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import pytest
import torch

from benchmarks.gpu import model
from benchmarks.gpu.workloads import WORKLOADS
from tests.conftest import ROOT

MINILM = "all-MiniLM-L6-v2"
TIMEOUT_S = 300


def bench_gpu(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=TIMEOUT_S,
        check=False,
    )


def test_a_dry_run_measures_everything(repository_of: Callable[..., Path], tmp_path: Path) -> None:
    output = tmp_path / "here.json"
    repository = repository_of(MINILM)
    done = bench_gpu(
        *("minilm-16", "--dry-run", "--models", str(repository), "--output", str(output))
    )
    assert done.returncode == 0, done.stderr
    measured = json.loads(output.read_text())
    page = output.with_suffix(".md").read_text()
    assert measured["caveat"] == "dry run on a CPU: these figures say nothing of a card"
    # In the table itself, and with the environment.
    assert page.startswith(f"| {measured['caveat']} ")
    assert f"- cpu: {measured['environment']['cpu']}" in page
    assert page in done.stdout
    assert all(rate > 0 for rate in measured["rates"].values())
    (one,) = measured["results"]
    assert one["workload"] == f"{MINILM}, 16 tokens"
    assert one["parity"]["min_cosine"] > 0.9999
    assert one["parity"]["torch_min_cosine"] > 0.99
    ort, torch_, roofline = (one[name] for name in ("onnx_runtime", "torch", "roofline"))
    assert ort["rows"] == torch_["rows"]
    assert ort["of_roofline"] == pytest.approx(
        ort["items_per_s"] / roofline["items_per_s"], rel=1e-3
    )
    # Six layers of 12 x 384^2 weights, and two products of attention, of 16 tokens with 16.
    multiplications = 6 * (12 * 384**2 * 16 + 2 * 384 * 16 * 16)
    assert roofline["flops"] == 2 * multiplications * ort["rows"]
    assert [(own["items"], own["streams"]) for own in one["server"]] == [
        *((1, 1), (1, 2), (2, 1), (2, 2))
    ]
    for load in one["server"]:
        assert load["errors"] == {}
        assert load["utilisation_percent"] is None
        for beside, figures in (("of_onnx_runtime", ort), ("of_torch", torch_)):
            expected = load["items_per_s"] / figures["items_per_s"]
            assert load[beside] == pytest.approx(expected, rel=1e-3)


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(),
    reason="this ONNX Runtime has CUDA",
)
def test_without_a_card_it_refuses() -> None:
    done = bench_gpu()
    assert done.returncode == 1
    assert "built without CUDA" in done.stderr
    assert "--dry-run" in done.stderr


@pytest.mark.parametrize("name", ["minilm-16", "resnet", "clip-b32", "whisper"])
def test_modules_run_wherever_their_inputs_are(name: str, repository: Path) -> None:
    # PyTorch's device without memory refuses what a card would: a tensor left on the CPU.
    tested = model.load(WORKLOADS[name], repository, "fp32")
    module = copy.deepcopy(tested.tower.module).to("meta")
    inputs = [torch.from_numpy(feed).to("meta") for feed in tested.feeds(2).values()]
    with torch.inference_mode():
        outputs = module(*inputs)
    outputs = [outputs] if isinstance(outputs, torch.Tensor) else outputs
    assert {output.device.type for output in outputs} == {"meta"}
