"""The command `vecserve-server`: its version, and what it says where an extra is missing."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

# What the extras bring, by its import name.
SERVER = ["PIL", "grpc_health", "grpc_reflection", "grpc_status", "prometheus_client", "pydantic"]
SERVER += ["pydantic_settings", "soundfile", "soxr", "tokenizers", "uvloop"]

RUN_WITHOUT = """
import runpy, sys
sys.modules.update(dict.fromkeys({modules}))
runpy.run_module("vecserve_server", run_name="__main__", alter_sys=True)
"""


def run_without(modules: list[str], *flags: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command in a process that cannot import some modules."""
    program = RUN_WITHOUT.format(modules=modules)
    return subprocess.run([sys.executable, "-c", program, *flags], capture_output=True, text=True)


def test_version_is_that_of_the_package() -> None:
    done = run_without([], "--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"vecserve-server {version('vecserve')}\n"


def test_help_names_the_version_flag() -> None:
    done = run_without([], "--help")
    assert "--version" in done.stdout
    assert "print the version and exit" in done.stdout


@pytest.mark.parametrize("module", SERVER)
def test_missing_extra_of_the_server_is_named(module: str, tmp_path: Path) -> None:
    done = run_without([module], "--repository", tmp_path / "none")
    assert done.returncode == 2
    assert done.stderr == f"vecserve-server needs {module}: pip install 'vecserve[server]'\n"


def test_missing_onnxruntime_names_the_extras_that_bring_it(tmp_path: Path) -> None:
    done = run_without(["onnxruntime"], "--repository", tmp_path / "none")
    assert done.returncode == 2
    assert done.stderr == (
        "vecserve-server needs onnxruntime: "
        "pip install 'vecserve[server,cpu]' (or gpu or openvino in place of cpu)\n"
    )


def test_base_install_names_all_that_is_missing(tmp_path: Path) -> None:
    done = run_without([*SERVER, "onnxruntime"], "--repository", tmp_path / "none")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.endswith("pip install 'vecserve[server,cpu]' (or gpu or openvino in place of cpu)")
