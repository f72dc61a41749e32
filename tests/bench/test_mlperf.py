"""`python -m benchmarks.mlperf`: all samples answered, LoadGen's figures and verdicts shown."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

MINILM = "all-MiniLM-L6-v2"
TEXTS = 12
TIMEOUT_S = 120


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mlperf")


@pytest.fixture(scope="module")
def done(folder: Path, repository_of: Callable[..., Path]) -> subprocess.CompletedProcess[str]:
    """A run of all scenarios, too short for LoadGen to call them all valid."""
    return subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.mlperf", MINILM),
            *("--seconds", "0.5", "--server-queries", "20", "--distinct-texts", str(TEXTS)),
            *("--repository", str(repository_of(MINILM)), "--logs", str(folder / "logs")),
            *("--output", str(folder / "measured.json")),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=TIMEOUT_S,
    )


@pytest.fixture(scope="module")
def measured(done: subprocess.CompletedProcess[str], folder: Path) -> dict[str, Any]:
    assert done.returncode == 0, done.stdout + done.stderr
    read: dict[str, Any] = json.loads((folder / "measured.json").read_text())
    return read


def test_three_scenarios_with_the_machine_and_the_caveat(measured: dict[str, Any]) -> None:
    assert [one["scenario"] for one in measured["results"]] == ["SingleStream", "Offline", "Server"]
    assert {(one["model"], one["trained"]) for one in measured["results"]} == {(MINILM, True)}
    assert "not an MLPerf submission" in measured["caveat"]
    assert measured["environment"]["packages"].keys() >= {"mlcommons-loadgen", "vecserve"}


def test_every_sample_is_answered_once(measured: dict[str, Any], folder: Path) -> None:
    for one in measured["results"]:
        counted = (
            one["loadgen"]["result_query_count"] * one["loadgen"]["effective_samples_per_query"]
        )
        assert one["issued"] == one["answered"] == counted > 0
        logs = folder / "logs" / MINILM / one["scenario"] / "AccuracyOnly"
        logged = json.loads((logs / "mlperf_log_accuracy.json").read_text())
        assert sorted(entry["qsl_idx"] for entry in logged) == list(range(TEXTS))


def test_the_answers_are_those_of_the_client(measured: dict[str, Any]) -> None:
    for one in measured["results"]:
        accuracy = one["accuracy"]
        assert accuracy["answers"] == TEXTS
        assert accuracy["least_cosine"] >= 0.99999 > accuracy["nearest_other"]


def test_figures_and_verdicts_are_loadgens(
    measured: dict[str, Any], folder: Path, done: subprocess.CompletedProcess[str]
) -> None:
    own = {
        "SingleStream": ("90.0th percentile latency (ns)", "result_90.00_percentile_latency_ns"),
        "Offline": ("Samples per second", "result_samples_per_second"),
        "Server": ("Completed samples per second", "result_completed_samples_per_sec"),
    }
    for one in measured["results"]:
        logs = folder / "logs" / MINILM / one["scenario"] / "PerformanceOnly"
        summary = (logs / "mlperf_log_summary.txt").read_text()
        told = dict(line.split(":", 1) for line in summary.splitlines() if line.count(":") == 1)
        said = {name.strip(): value.strip() for name, value in told.items()}
        name, key = own[one["scenario"]]
        assert one["loadgen"][key] == pytest.approx(float(said[name]), rel=1e-3)
        assert one["loadgen"][key] > 0
        assert one["validity"] == said["Result is"]
        assert one["verdict"] in summary
        row = f"{MINILM}, {one['scenario']}: {one['validity']}"
        assert (row in done.stdout) == (one["validity"] == "INVALID")
    assert "not an MLPerf submission" in " ".join(done.stdout.split())


@pytest.mark.parametrize("package", ["anyio", "mlperf_loadgen"])
def test_a_missing_extra_is_named(package: str, tmp_path: Path) -> None:
    program = (
        f"import runpy, sys; sys.modules[{package!r}] = None\n"
        "runpy.run_module('benchmarks.mlperf', run_name='__main__', alter_sys=True)"
    )
    failed = subprocess.run(
        [sys.executable, "-c", program, "--repository", str(tmp_path / "none")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=TIMEOUT_S,
    )
    assert failed.returncode == 2
    (line,) = failed.stderr.splitlines()
    assert f"make mlperf needs {package}: pip install 'vecserve[bench]'" in line


def test_a_server_that_lacks_the_model_fails_the_run(
    folder: Path, repository_of: Callable[..., Path]
) -> None:
    failed = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.mlperf", "resnet-50"),
            *("--repository", str(repository_of(MINILM)), "--output", str(folder / "none.json")),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=TIMEOUT_S,
    )
    assert failed.returncode == 1
    assert "resnet-50" in failed.stdout
    assert not (folder / "none.json").exists()
