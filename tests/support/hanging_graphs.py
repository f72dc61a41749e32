"""Graphs that run as long as the request says: y = steps, after that many steps."""

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.process.oip.graphs import Info, graph

# So many steps do not end while a test lasts.
FOR_EVER = 10**15
# NonMaxSuppression compares as many boxes with each other: minutes.
FOR_MINUTES = 500_000

_STEPS: Info = ("steps", TensorProto.INT64, ["batch", 1])
_SAME: Info = ("y", TensorProto.INT64, ["batch", 1])
_ZERO = np.array(0, dtype=np.int64)


def counting() -> onnx.ModelProto:
    """Counts to the largest of a batch's steps in a Loop: many nodes run one after the other."""
    nodes = [
        helper.make_node("ReduceMax", ["steps"], ["most"], keepdims=0),
        helper.make_node("Loop", ["most", "", "zero"], ["count"], body=_add_one()),
    ]
    return _same(nodes, "count", {"one": np.array(1, dtype=np.int64)})


def never_ending() -> onnx.ModelProto:
    """Counts for ever, whatever its input."""
    nodes = [helper.make_node("Loop", ["", "true", "zero"], ["count"], body=_add_one())]
    return _same(nodes, "count", {"one": np.array(1, dtype=np.int64), "true": np.array(True)})


def comparing(at_least: int = 0) -> onnx.ModelProto:
    """Compares so many boxes with each other, in one node: that cannot be interrupted."""
    nodes = [
        helper.make_node("ReduceMax", ["steps"], ["asked"], keepdims=0),
        helper.make_node("Max", ["asked", "at_least"], ["most"]),
        helper.make_node("Reshape", ["most", "one"], ["boxes"]),
        helper.make_node("Concat", ["one", "boxes", "four"], ["shape_of_boxes"], axis=0),
        helper.make_node("Concat", ["one", "one", "boxes"], ["shape_of_scores"], axis=0),
        helper.make_node("ConstantOfShape", ["shape_of_boxes"], ["corners"]),
        helper.make_node("ConstantOfShape", ["shape_of_scores"], ["scores"]),
        # Boxes without area overlap with none: all of them are kept.
        helper.make_node("NonMaxSuppression", ["corners", "scores", "boxes"], ["kept"]),
        helper.make_node("ReduceSum", ["kept"], ["count"], keepdims=0),
    ]
    constants = {
        "one": np.array([1], dtype=np.int64),
        "four": np.array([4], dtype=np.int64),
        "at_least": np.array(at_least, dtype=np.int64),
    }
    return _same(nodes, "count", constants)


def _add_one(one: str = "one") -> onnx.GraphProto:
    return helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["goes_on"]),
            helper.make_node("Add", ["before", one], ["after"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("step", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.INT64, []),
        ],
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.INT64, []),
        ],
    )


def _same(
    nodes: list[onnx.NodeProto], result: str, constants: dict[str, np.ndarray]
) -> onnx.ModelProto:
    """y = steps, once `result` is there."""
    last = [
        helper.make_node("Mul", [result, "zero"], ["nothing"]),
        helper.make_node("Add", ["steps", "nothing"], ["y"]),
    ]
    return graph([*nodes, *last], [_STEPS], [_SAME], {**constants, "zero": _ZERO})


def hang_on_unknown_token(bundle: Path) -> None:
    """Let the graph of `save_text_bundle` hang on a token beyond its table, not fail."""
    path = bundle / "text.onnx"
    model = onnx.load(path)
    (size,) = (constant.dims[0] for constant in model.graph.initializer if constant.name == "table")
    for node in model.graph.node:
        if node.op_type == "Gather":
            node.input[1] = "known_ids"
    first = [
        helper.make_node("ReduceMax", ["input_ids"], ["largest"], keepdims=0),
        helper.make_node("Sub", ["largest", "last_id"], ["beyond"]),
        helper.make_node("Max", ["beyond", "no_steps"], ["unknown"]),
        helper.make_node("Mul", ["unknown", "for_ever"], ["steps"]),
        helper.make_node("Loop", ["steps", "", "no_steps"], ["counted"], body=_add_one("one_step")),
        helper.make_node("Mul", ["counted", "no_steps"], ["no_more"]),
        helper.make_node("Min", ["input_ids", "last_id"], ["in_table"]),
        helper.make_node("Add", ["in_table", "no_more"], ["known_ids"]),
    ]
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*first, *rest])
    numbers = {"last_id": size - 1, "no_steps": 0, "one_step": 1, "for_ever": FOR_EVER}
    for name, number in numbers.items():
        constant = numpy_helper.from_array(np.array(number, dtype=np.int64), name)
        model.graph.initializer.append(constant)
    onnx.save(model, path)
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"]["text.onnx"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (bundle / "manifest.json").write_text(json.dumps(manifest))
