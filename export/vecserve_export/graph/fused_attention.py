"""Fused attention for fp16 graphs: ONNX Runtime's MultiHeadAttention, one kernel on a GPU.

Traced plainly, attention is nine kernels that write [heads, positions, positions]
weights to memory and read them back. Fused, ONNX Runtime's CUDA provider runs
FlashAttention, or a memory-efficient kernel where there is a mask.

https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnxruntime.transformers.onnx_model import OnnxModel
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask

_FUSED = "onnxruntime_fused"
_DOMAIN, _OPERATOR = "com.microsoft", "MultiHeadAttention"
# [batch, heads, positions, head] to [batch, positions, heads, head], and back.
_SWAP_HEADS = [0, 2, 1, 3]


class _MultiHeadAttention(torch.autograd.Function):
    """Attention over heads: how PyTorch computes it, and the node that it is traced to.

    Float [batch, heads, positions, head] thrice to [batch, positions, heads, head].
    """

    @staticmethod
    def forward(
        _: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        bias: torch.Tensor | None,
        _heads: int,
        scale: float,
    ) -> torch.Tensor:
        """Compute it."""
        return torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=bias, scale=scale
        ).transpose(1, 2)

    @staticmethod
    def symbolic(
        graph: Any, query: Any, key: Any, value: Any, bias: Any, heads: int, scale: float
    ) -> Any:
        """Return the node, whose heads `join_heads` has yet to join."""
        inputs = [query, key, value] + ([] if bias is None else [bias])
        node = graph.op(f"{_DOMAIN}::{_OPERATOR}", *inputs, num_heads_i=heads, scale_f=scale)
        return node.setType(query.type().with_sizes([None, None, heads, None]))


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Attend with one operator, as transformers asks of an attention function."""
    # Numbers, which the trace would make values of the graph.
    heads, size = int(query.shape[1]), int(query.shape[3])
    attended: torch.Tensor = _MultiHeadAttention.apply(  # type: ignore[no-untyped-call]
        query, key, value, attention_mask, heads, scaling or size**-0.5
    )
    return attended, None


AttentionInterface.register(_FUSED, _attend)
AttentionMaskInterface.register(_FUSED, eager_mask)


def fuse_attention(module: torch.nn.Module) -> None:
    """Let the models of transformers in `module` attend with one operator when it is traced."""
    for part in module.modules():
        if isinstance(part, PreTrainedModel) and part._supports_sdpa:
            part.set_attn_implementation(_FUSED)


def join_heads(graph: Path) -> None:
    """Give the operator, in a graph as traced, what it takes: [batch, positions, heads * head].

    Where heads were split off just before, and are joined just behind, neither is done. A bias
    is repeated for every position: the operator does so for rows and heads only.
    """
    model = onnx.load(graph, load_external_data=False)
    repeated: set[str] = set()
    nodes = [joined for node in model.graph.node for joined in _join_heads(node, model, repeated)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    wrapper = OnnxModel(model)
    wrapper.prune_graph()
    onnx.save(wrapper.model, graph)


def _join_heads(node: NodeProto, model: ModelProto, repeated: set[str]) -> Iterator[NodeProto]:
    if node.op_type != _OPERATOR:
        yield node
        return
    made = {name: each for each in model.graph.node for name in each.output}
    for index in range(3):
        split = made.get(node.input[index])
        shaped = made.get(split.input[0]) if split and _swaps_heads(split) else None
        if shaped and shaped.op_type == "Reshape":
            node.input[index] = shaped.input[0]
            continue
        name = f"{node.name}/joined_{index}"
        yield helper.make_node("Transpose", [node.input[index]], [f"{name}/t"], perm=_SWAP_HEADS)
        yield from _reshape(f"{name}/t", name, [0, 0, -1])
        node.input[index] = name
    if len(node.input) > 3:
        bias = node.input[3]
        if bias not in repeated:
            repeated.add(bias)
            yield from _repeat(bias, node.input[0])
        # The trace cannot leave out the two before it: a bias of the projections, and a mask.
        node.input[:] = [*node.input[:3], "", "", f"{bias}/repeated"]
    heads, attended = helper.get_node_attr_value(node, "num_heads"), node.output[0]
    node.output[0] = f"{attended}/joined"
    yield node
    yield from _reshape(node.output[0], attended, [0, 0, heads, -1])
    for behind in model.graph.node:
        if behind.op_type == "Reshape" and behind.input[0] == attended:
            # It joins the heads again.
            behind.op_type = "Identity"
            del behind.attribute[:]
            behind.input[:] = [node.output[0]]


def _swaps_heads(node: NodeProto) -> bool:
    return node.op_type == "Transpose" and helper.get_node_attr_value(node, "perm") == _SWAP_HEADS


def _reshape(source: str, target: str, shape: list[int]) -> Iterator[NodeProto]:
    constant = numpy_helper.from_array(np.array(shape, np.int64))
    yield helper.make_node("Constant", [], [f"{target}/shape"], value=constant)
    yield helper.make_node("Reshape", [source, f"{target}/shape"], [target])


def _repeat(bias: str, query: str) -> Iterator[NodeProto]:
    """Repeat a bias [batch, 1, 1 or positions, positions] for the positions of `query`."""
    name = f"{bias}/repeated"
    ones = numpy_helper.from_array(np.ones(1, np.int64))
    yield helper.make_node("Constant", [], [f"{name}/one"], value=ones)
    yield helper.make_node("Shape", [query], [f"{name}/positions"], start=1, end=2)
    parts = [f"{name}/one", f"{name}/one", f"{name}/positions", f"{name}/one"]
    yield helper.make_node("Concat", parts, [f"{name}/shape"], axis=0)
    yield helper.make_node("Expand", [bias, f"{name}/shape"], [name])


def declare_types(model: ModelProto) -> None:
    """Say that the operator gives fp16, which ONNX's own inference of types cannot know."""
    model.graph.value_info.extend(
        helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT16, None)
        for node in model.graph.node
        if node.op_type == _OPERATOR
    )
