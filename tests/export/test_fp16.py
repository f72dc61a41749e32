"""--precision fp16: which parts of a graph are converted, and how it is verified."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file, save_file

from tests.export.conftest import Command
from tests.export.test_precisions import manifest_of
from vecserve_export import samples
from vecserve_export.graph import optimize
from vecserve_export.graph.fp16_emulation import emulate_fp16

IN_FP16 = ("LayerNormalization", "MultiHeadAttention", "Erf", "Gelu", "Sigmoid", "MaxPool")
IN_FP32 = ("ReduceSum", "ReduceL2", "GlobalAveragePool", "Log")
FAMILIES = ("tiny-bert", "tiny-clip", "tiny-resnet", "tiny-whisper")


@pytest.mark.parametrize("opset", [17, 20])
@pytest.mark.parametrize("name", FAMILIES)
def test_layers_are_fp16_and_pooling_and_spectrogram_are_not(
    name: str, opset: int, checkpoints: Path, command: Command, repository: Path
) -> None:
    result = command(checkpoints / name, "--precision", "fp16", "--opset", str(opset))
    assert result.exit_code == 0, result.output
    folder = repository / f"{name}-fp16" / "1"
    for tower in manifest_of(folder).towers:
        model = onnx.load(folder / tower.graph)
        onnx.checker.check_model(model, full_check=True)
        opsets = {opset.domain: opset.version for opset in model.opset_import}
        fused = {} if name == "tiny-resnet" else {"com.microsoft": 1}
        assert opsets == {"": opset} | fused
        types = {tensor.name: tensor.data_type for tensor in model.graph.initializer if tensor.dims}
        fp32 = {tensor for tensor, kind in types.items() if kind == TensorProto.FLOAT}
        assert all(tensor.startswith(("spectrogram.", "/spectrogram/")) for tensor in fp32)
        assert TensorProto.FLOAT16 in types.values()
        # Five at most: into fp16 and out of it, and what the fp32 graph has for its masks.
        assert [node.op_type for node in model.graph.node].count("Cast") <= 5
        graph = onnx.shape_inference.infer_shapes(model).graph
        kinds = {
            value.name: value.type.tensor_type.elem_type
            for value in (*graph.value_info, *graph.output)
        }
        for node in graph.node:
            if node.op_type in IN_FP16:
                assert kinds[node.output[0]] == TensorProto.FLOAT16
            elif node.op_type in IN_FP32:
                assert kinds[node.output[0]] == TensorProto.FLOAT
        assert {kinds[output.name] for output in graph.output} == {TensorProto.FLOAT}


def test_parity_is_within_fp16s_tolerance(
    checkpoints: Path, command: Command, repository: Path
) -> None:
    assert command(checkpoints / "tiny-bert", "--precision", "fp16").exit_code == 0
    parity = manifest_of(repository / "tiny-bert-fp16" / "1").parity
    assert parity.min_cosine_allowed == 0.9995
    assert parity.min_cosine >= 0.9995
    assert parity.min_position_cosine_allowed == 0.99
    assert parity.min_position_cosine is not None
    assert parity.min_position_cosine >= 0.99
    assert parity.mean_cosine_allowed == 0.9999
    assert parity.mean_cosine is not None
    assert parity.mean_cosine >= 0.9999
    assert parity.max_neighbour_error is not None
    assert parity.max_neighbour_error <= 5e-3


def test_overflow_is_not_written_though_a_cpu_computes_it(
    checkpoints: Path, command: Command, repository: Path, tmp_path: Path
) -> None:
    # Between the last feed-forward's two layers values come to 1e5, before the layer norm to 1e4.
    checkpoint = Path(shutil.copytree(checkpoints / "tiny-bert", tmp_path / "loud"))
    weights = load_file(checkpoint / "model.safetensors")
    weights["encoder.layer.1.intermediate.dense.weight"] *= np.float32(2**20)
    weights["encoder.layer.1.output.dense.weight"] *= np.float32(2**-4)
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})
    assert command(checkpoint).exit_code == 0
    result = command(checkpoint, "--precision", "fp16")
    assert result.exit_code == 1
    assert "min cosine nan" in result.stderr
    assert [path.name for path in repository.iterdir()] == ["loud"]


def test_weights_too_large_for_a_graph_have_a_file_of_their_own(
    checkpoints: Path, command: Command, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimize, "MAX_GRAPH_BYTES", 0)
    result = command(checkpoints / "tiny-resnet", "--precision", "fp16")
    assert result.exit_code == 0, result.output
    folder = repository / "tiny-resnet-fp16" / "1"
    assert set(manifest_of(folder).files) == {"image.onnx", "image.onnx.data"}
    session = onnxruntime.InferenceSession(folder / "image.onnx")
    (vectors,) = session.run(None, {"pixels": samples.photos(64, 64)})
    assert vectors.dtype == np.float32


def test_every_operator_rounds(tmp_path: Path) -> None:
    third = np.float16(1 / 3)
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["half"], to=TensorProto.FLOAT16),
            helper.make_node("Mul", ["half", "third"], ["product"]),
            helper.make_node("Add", ["product", "third"], ["sum"]),
            helper.make_node("Cast", ["sum"], ["y"], to=TensorProto.FLOAT),
        ],
        "steps",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows"])],
        [numpy_helper.from_array(np.array([third]), "third")],
    )
    source, target = tmp_path / "source.onnx", tmp_path / "target.onnx"
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), source
    )
    emulate_fp16(source, target)
    x = np.linspace(1, 9e4, 1000, dtype=np.float32)
    session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": x})
    with np.errstate(over="ignore"):
        expected = x.astype(np.float16) * third + third
    assert np.isinf(expected[-1])
    np.testing.assert_array_equal(y, expected.astype(np.float32))
