"""Verification: a graph that differs from PyTorch is not written."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.export.conftest import Command
from vecserve_export import export as exporting
from vecserve_export.graph.optimize import optimize

Change = Callable[[onnx.ModelProto], None]


def after_optimizing(monkeypatch: pytest.MonkeyPatch, change: Change) -> None:
    """Have the optimiser's graphs changed by `change(model)` before they are verified."""

    def optimize_and_change(source: Path, target: Path) -> None:
        optimize(source, target)
        model = onnx.load(target)
        change(model)
        onnx.save(model, target)

    monkeypatch.setattr(exporting, "optimize", optimize_and_change)


def largest_weight(model: onnx.ModelProto) -> onnx.TensorProto:
    return max(model.graph.initializer, key=lambda tensor: int(np.prod(tensor.dims)))


def scale_largest_weight(model: onnx.ModelProto, factor: float) -> None:
    tensor = largest_weight(model)
    scaled = numpy_helper.to_array(tensor) * np.float32(factor)
    tensor.CopyFrom(numpy_helper.from_array(scaled, tensor.name))


@pytest.mark.parametrize("name", ["tiny-bert", "tiny-clip", "tiny-resnet", "tiny-whisper"])
def test_out_of_tolerance_fails_and_says_by_how_much(
    name: str,
    checkpoints: Path,
    command: Command,
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    after_optimizing(monkeypatch, lambda model: scale_largest_weight(model, 1.01))
    result = command(checkpoints / name)
    assert result.exit_code == 1
    assert (
        "too far from PyTorch or from itself in another batch (allowed: max abs error 0.0001, "
        "min cosine 0.99999, min position cosine 0.99999, mean cosine 0.99999, "
        "max neighbour error 1e-05" in result.stderr
    )
    assert "max abs error 0.0" in result.stderr
    assert list(repository.iterdir()) == []


def test_nan_is_out_of_tolerance(
    checkpoints: Path, command: Command, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after_optimizing(monkeypatch, lambda model: scale_largest_weight(model, np.nan))
    result = command(checkpoints / "tiny-resnet")
    assert result.exit_code == 1
    assert "nan" in result.stderr
    assert list(repository.iterdir()) == []


def test_failure_leaves_the_bundle_that_was_there(
    checkpoints: Path, command: Command, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command(checkpoints / "tiny-resnet").exit_code == 0
    before = (repository / "tiny-resnet" / "1" / "manifest.json").read_bytes()
    after_optimizing(monkeypatch, lambda model: scale_largest_weight(model, 1.01))
    assert command(checkpoints / "tiny-resnet", "--force").exit_code == 1
    assert (repository / "tiny-resnet" / "1" / "manifest.json").read_bytes() == before
    assert [path.name for path in repository.iterdir()] == ["tiny-resnet"]


def rename_output(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        node.output[:] = ["renamed" if name == "pooled" else name for name in node.output]
    model.graph.output[0].name = "renamed"


def fix_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2


def free_height(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "height"


@pytest.mark.parametrize(
    ("change", "said"),
    [(rename_output, "renamed"), (fix_batch, "pixels is"), (free_height, "'height'")],
)
def test_broken_contract_fails(
    change: Change,
    said: str,
    checkpoints: Path,
    command: Command,
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    after_optimizing(monkeypatch, change)
    result = command(checkpoints / "tiny-resnet")
    assert result.exit_code == 1
    assert said in result.stderr
    assert list(repository.iterdir()) == []
