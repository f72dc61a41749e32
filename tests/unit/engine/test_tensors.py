"""Tensor types that requests cannot carry, and what the owner of the model can do."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from vecserve_server.engine.tensors import UnknownType, specs_of


def classifier() -> bytes:
    """What skl2onnx ends a classifier with: probabilities as a sequence of maps."""
    graph = helper.make_graph(
        [
            helper.make_node(
                "ZipMap",
                ["x"],
                ["y"],
                domain="ai.onnx.ml",
                classlabels_int64s=np.arange(3).tolist(),
            )
        ],
        "classifier",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 3])],
        [
            helper.make_value_info(
                "y",
                helper.make_sequence_type_proto(
                    helper.make_map_type_proto(
                        TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, [])
                    )
                ),
            )
        ],
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=imports, ir_version=8)
    return model.SerializeToString()


def test_a_zipmap_says_how_to_do_without() -> None:
    session = onnxruntime.InferenceSession(classifier())
    assert [spec.name for spec in specs_of(session.get_inputs())] == ["x"]
    with pytest.raises(
        UnknownType, match=r"'y' is a seq\(map\(int64,tensor\(float\)\)\).*'zipmap'"
    ):
        specs_of(session.get_outputs())
