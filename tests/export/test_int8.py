"""--precision int8: which layers are quantized, and their accuracy."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.export.conftest import Command
from tests.export.test_precisions import manifest_of
from vecserve_export.graph.int8 import quantize

TRANSFORMERS = ("tiny-bert", "tiny-clip", "tiny-whisper")


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_parity_is_measured(
    name: str, checkpoints: Path, command: Command, repository: Path
) -> None:
    assert command(checkpoints / name, "--precision", "int8").exit_code == 0
    parity = manifest_of(repository / f"{name}-int8" / "1").parity
    assert parity.mean_cosine is not None
    assert parity.mean_cosine_allowed == 0.995
    assert parity.mean_cosine >= 0.995
    assert parity.max_neighbour_error is not None
    assert parity.max_neighbour_error <= 1e-5


@pytest.mark.parametrize("opset", [17, 20])
@pytest.mark.parametrize("name", TRANSFORMERS)
def test_layers_multiply_integers_with_standard_operators(
    name: str, opset: int, checkpoints: Path, command: Command, repository: Path
) -> None:
    command(checkpoints / name, "--precision", "int8", "--opset", str(opset))
    folder = repository / f"{name}-int8" / "1"
    for tower in manifest_of(folder).towers:
        model = onnx.load(folder / tower.graph)
        onnx.checker.check_model(model, full_check=True)
        assert {node.domain for node in model.graph.node} == {""}
        constants = {tensor.name: tensor for tensor in model.graph.initializer}
        kinds = [node.op_type for node in model.graph.node]
        # Two layers of query, key, value, output and two of the feed-forward.
        assert kinds.count("MatMulInteger") >= 12
        assert not [
            node
            for node in model.graph.node
            if node.op_type == "MatMul" and node.input[1] in constants
        ]


def test_model_without_such_layers_is_refused(
    checkpoints: Path, command: Command, repository: Path
) -> None:
    result = command(checkpoints / "tiny-resnet", "--precision", "int8")
    assert result.exit_code == 1
    assert "without --precision int8" in result.stderr
    assert list(repository.iterdir()) == []


def test_zero_rows_and_columns_stay_zero(tmp_path: Path) -> None:
    weights = np.array([[1.0, 0.0], [-2.0, 0.0], [0.5, 0.0]], np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 2])],
        [numpy_helper.from_array(weights, "w")],
    )
    source, target = tmp_path / "source.onnx", tmp_path / "target.onnx"
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), source
    )
    x = np.array([[0, 0, 0], [1, 2, 3]], np.float32)
    quantize(source, target, [{"x": x}])
    (y,) = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"]).run(
        None, {"x": x}
    )
    np.testing.assert_array_equal(y[0], 0)
    np.testing.assert_array_equal(y[:, 1], 0)
    np.testing.assert_allclose(y[1, 0], x[1] @ weights[:, 0], rtol=0.02)
