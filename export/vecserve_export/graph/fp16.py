"""Conversion of an ONNX graph to fp16, for GPUs: half the weights' memory, tensor core products.

The conversion is ONNX Runtime's own (onnxruntime.transformers). Inputs and
outputs keep their types. Two parts stay fp32:

- What the plan names in `fp32_modules`, such as Whisper's log-mel spectrogram.
- What follows the last weights: pooling and unit length. The vectors are float32
  anyway, and sums over positions come to 27,000 in whisper-base, where fp16 ends
  at 65,504.

More fp32 is not worth its Casts, each of which is a kernel of its own on a GPU.
Layer norm and softmax compute in fp32 inside (the former by its definition,
ONNX's stash_type; the latter in ONNX Runtime's CUDA kernels), and between fp16
neighbours that is all an fp32 one could give. Measured with every operator's
result rounded to fp16 (see fp16_emulation.py), 1 - the least cosine of a pooled
vector: MiniLM 1.5e-6, and 7e-7 with fp32 layer norms, with fp32 softmax or
GELU no better; CLIP 8e-7 in both towers and ResNet-50 1e-7 (both untrained),
whether layer norms, softmax or the normalising of pixels are fp32 or not;
whisper-base 1e-7 with or without.

But for fused attention only standard ONNX operators come out; other fusions are left to the
provider, at load.
"""

from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx import GraphProto, NodeProto, TensorProto, helper
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

from vecserve_export.graph.fused_attention import declare_types
from vecserve_export.graph.optimize import save


def convert_to_fp16(source: Path, target: Path, fp32_modules: Sequence[str] = ()) -> None:
    """Write the fp16 form of a traced float32 graph, but for some attributes of its module."""
    graph = onnx.load(source, load_external_data=False).graph
    # The trace names a node by the path of attributes that lead to it.
    prefixes = tuple(f"/{name}/" for name in fp32_modules)
    kept = [node.name for node in graph.node if node.name.startswith(prefixes)]
    converted = OnnxModel(
        convert_float_to_float16(
            str(source),
            keep_io_types=True,
            # The types that it would keep fp32 by itself are those that once had no fp16 kernel.
            op_block_list=[],
            node_block_list=kept + _behind_the_weights(graph),
        )
    )
    # Types are known already, and ONNX Runtime's own inference does not know all of opset 20.
    converted.disable_shape_inference()
    converted.remove_cascaded_cast_nodes()
    converted.remove_useless_cast_nodes()
    _share_casts(converted.graph())
    converted.topological_sort()
    # They were made before Casts were taken out.
    del converted.graph().value_info[:]
    declare_types(converted.model)
    save(converted.model, target)


def _behind_the_weights(graph: GraphProto) -> list[str]:
    """Return the names of the nodes from which no weight is reached any more."""
    weights = {
        tensor.name
        for tensor in graph.initializer
        if tensor.data_type == TensorProto.FLOAT and tensor.dims
    }
    names = []
    before: set[str] = set()
    for node in reversed(graph.node):
        if weights.isdisjoint(node.input) and before.isdisjoint(node.output):
            names.append(node.name)
        else:
            before.update(node.input)
    return names


def _share_casts(graph: GraphProto) -> None:
    """Leave one Cast of a value to a type.

    The converter makes one for every node that needs it, all of one name if
    these are fp32, and no runtime loads that.
    """
    outputs = {output.name for output in graph.output}
    # A graph's output keeps its name.
    casts = sorted(
        (node for node in graph.node if node.op_type == "Cast"),
        key=lambda cast: cast.output[0] not in outputs,
    )
    shared: dict[tuple[str, int], NodeProto] = {}
    names: dict[str, str] = {}
    for cast in casts:
        first = shared.setdefault((cast.input[0], helper.get_node_attr_value(cast, "to")), cast)
        names[cast.output[0]] = first.output[0]
    nodes = [node for node in graph.node if node.op_type != "Cast"] + list(shared.values())
    for node in nodes:
        node.input[:] = [names.get(name, name) for name in node.input]
    del graph.node[:]
    graph.node.extend(nodes)
