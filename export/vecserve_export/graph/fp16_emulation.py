"""Emulation, on a CPU, of how fp16 hardware rounds an fp16 graph.

ONNX Runtime's CPU provider computes fp16 operators in fp32 and hands fp32 from
one to the next: neither rounding errors nor an overflow would show. Here
every operator computes in fp32 from fp16 values and its result is rounded to
fp16, as on a GPU that adds up in fp32.
"""

from pathlib import Path

import onnx
from onnx import NodeProto, TensorProto, helper


def emulate_fp16(source: Path, target: Path) -> None:
    """Write the graph that rounds every result.

    It is written beside `source`, whose weights' file it may share.
    """
    model = onnx.load(source, load_external_data=False)
    graph = model.graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        types[value.name] = value.type.tensor_type.elem_type
    fp16_names = {name for name, kind in types.items() if kind == TensorProto.FLOAT16}
    widened: set[str] = set()
    nodes: list[NodeProto] = []
    for node in graph.node:
        # A Cast is what it is, and what takes no fp16 computes nothing in it.
        if node.op_type == "Cast" or fp16_names.isdisjoint(node.input):
            nodes.append(node)
            continue
        for name in sorted(fp16_names.intersection(node.input) - widened):
            nodes.append(_cast(name, _wide(name), TensorProto.FLOAT))
            widened.add(name)
        rounded = [name for name in node.output if name in fp16_names]
        node.input[:] = [_wide(name) if name in fp16_names else name for name in node.input]
        node.output[:] = [_exact(name) if name in fp16_names else name for name in node.output]
        nodes.append(node)
        nodes += [_cast(_exact(name), name, TensorProto.FLOAT16) for name in rounded]
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    onnx.save(model, target)


def _cast(source: str, target: str, kind: int) -> NodeProto:
    return helper.make_node("Cast", [source], [target], to=kind)


def _wide(name: str) -> str:
    return f"{name}/fp32"


def _exact(name: str) -> str:
    return f"{name}/exact"
