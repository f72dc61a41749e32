"""Quantization of an ONNX graph to int8, by weight column and activation row.

Every multiplication by a weight matrix becomes one of integers. A weight
column has one scale, and so has a row of activations (a token, a patch, 20 ms
of sound), taken from the row when it runs. The usual dynamic quantization
takes one scale from the whole batch, so that neighbours change a vector: to
cosine 0.97 to itself with MiniLM. Attention, layer norms and embeddings stay
float32; so does all but transformers.

A layer norm's output has a few channels far larger than the rest, which use up
the 8 bits of a row. They are divided by a constant and the weights multiplied
by it: SmoothQuant (Xiao et al. 2023, https://arxiv.org/abs/2211.10438) with
its alpha of 0.5. It takes MiniLM's mean cosine on STS-B from 0.995 to 0.997.

Only standard ONNX operators come out.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from vecserve_export.errors import Unsupported
from vecserve_export.graph.int8_operators import Int8MatMulBuilder
from vecserve_export.graph.optimize import save
from vecserve_export.plan import Feeds

_Array = npt.NDArray[np.float32]

# SmoothQuant's alpha: activations and weights share the quantization error equally.
_ALPHA = 0.5
# A channel that is zero in all samples is taken to reach this.
_LEAST_MAX = 1e-5


def quantize(source: Path, target: Path, samples: Sequence[Feeds]) -> None:
    """Write the int8 form of a float32 graph; `samples` are real inputs of it.

    Raises Unsupported if the graph multiplies by no weight matrix.
    """
    model = onnx.load(source)
    weights = {tensor.name: tensor for tensor in model.graph.initializer if len(tensor.dims) == 2}
    products: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        if node.op_type == "MatMul" and node.input[1] in weights:
            products.setdefault(node.input[0], []).append(node)
    if not products:
        raise Unsupported(
            f"{target.name} has no layer that int8 is for: it is for transformers (BERT, CLIP, "
            "Whisper); export this model without --precision int8"
        )
    norms = {node.output[0] for node in model.graph.node if node.op_type == "LayerNormalization"}
    maxima = _channel_maxima(source, sorted(norms & products.keys()), samples)
    builder = Int8MatMulBuilder(
        next(opset.version for opset in model.opset_import if not opset.domain)
    )
    replacements: dict[str, list[NodeProto]] = {}
    for x, nodes in products.items():
        matrices = [numpy_helper.to_array(weights[node.input[1]]) for node in nodes]
        divisor = _divisor(maxima[x], matrices) if x in maxima else None
        before = builder.quantize(x, divisor, len(matrices[0]))
        for node, matrix in zip(nodes, matrices, strict=True):
            scaled = matrix if divisor is None else matrix * divisor[:, None]
            replacements[node.output[0]] = before + builder.multiply(x, scaled, node.output[0])
            before = []
    _replace(model, replacements, builder.constants)
    save(model, target)


def _channel_maxima(
    source: Path, names: Sequence[str], samples: Sequence[Feeds]
) -> dict[str, _Array]:
    """Return the largest absolute value of each channel of some values inside the graph."""
    if not names:
        return {}
    probe = onnx.load(source, load_external_data=False)
    del probe.graph.output[:]
    for name in names:
        probe.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    # Beside the source, whose weights it may share.
    path = source.with_name(f"probe-{source.name}")
    onnx.save(probe, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    runs = [
        [np.abs(value).reshape(-1, value.shape[-1]).max(axis=0) for value in values]
        for values in (session.run(list(names), feeds) for feeds in samples)
    ]
    return {name: np.max(values, axis=0) for name, *values in zip(names, *runs, strict=True)}


def _divisor(maxima: _Array, matrices: Sequence[_Array]) -> _Array:
    """Return SmoothQuant's divisor of each channel of the activations."""
    of_weights = np.max([np.abs(matrix).max(axis=1) for matrix in matrices], axis=0)
    divisor: _Array = (
        np.maximum(maxima, _LEAST_MAX) ** _ALPHA
        / np.maximum(of_weights, _LEAST_MAX) ** (1 - _ALPHA)
    ).astype(np.float32)
    return divisor


def _replace(
    model: ModelProto,
    replacements: Mapping[str, Sequence[NodeProto]],
    constants: Sequence[TensorProto],
) -> None:
    """Put nodes in the place of those whose first output they compute."""
    graph = model.graph
    nodes = [new for node in graph.node for new in replacements.get(node.output[0], [node])]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(constants)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
