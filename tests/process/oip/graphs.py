"""Small ONNX graphs, made on the spot, and repositories of them."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# Protocol's name: (ONNX element type, numpy dtype); BF16 as its 16 bits.
NUMBERS = {
    "BOOL": (TensorProto.BOOL, np.bool_),
    "UINT8": (TensorProto.UINT8, np.uint8),
    "UINT16": (TensorProto.UINT16, np.uint16),
    "UINT32": (TensorProto.UINT32, np.uint32),
    "UINT64": (TensorProto.UINT64, np.uint64),
    "INT8": (TensorProto.INT8, np.int8),
    "INT16": (TensorProto.INT16, np.int16),
    "INT32": (TensorProto.INT32, np.int32),
    "INT64": (TensorProto.INT64, np.int64),
    "FP16": (TensorProto.FLOAT16, np.float16),
    "FP32": (TensorProto.FLOAT, np.float32),
    "FP64": (TensorProto.DOUBLE, np.float64),
}

Info = tuple[str, int, list[int | str | None]]


def graph(
    nodes: list[onnx.NodeProto],
    inputs: list[Info],
    outputs: list[Info],
    constants: dict[str, np.ndarray] | None = None,
) -> onnx.ModelProto:
    """A model of opset 17."""
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "graph",
            [helper.make_tensor_value_info(*info) for info in inputs],
            [helper.make_tensor_value_info(*info) for info in outputs],
            [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    onnx.checker.check_model(model)
    return model


def identity(types: Mapping[str, int], shape: list[int | str | None]) -> onnx.ModelProto:
    """Gives every input `x_...` as the output `y_...`."""
    return graph(
        [helper.make_node("Identity", [f"x_{name}"], [f"y_{name}"]) for name in types],
        [(f"x_{name}", kind, shape) for name, kind in types.items()],
        [(f"y_{name}", kind, shape) for name, kind in types.items()],
    )


def add(constant: float, shape: list[int | str | None]) -> onnx.ModelProto:
    """y = x + constant."""
    return graph(
        [helper.make_node("Add", ["x", "c"], ["y"])],
        [("x", TensorProto.FLOAT, shape)],
        [("y", TensorProto.FLOAT, shape)],
        {"c": np.array(constant, dtype=np.float32)},
    )


def rows_of_seven() -> onnx.ModelProto:
    """y = x in rows of seven numbers: fails on any other number, as on the server's blank rows."""
    return graph(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        [("x", TensorProto.FLOAT, ["batch", "length"])],
        [("y", TensorProto.FLOAT, ["batch", 7])],
        {"shape": np.array([-1, 7], dtype=np.int64)},
    )


def add_eight() -> onnx.ModelProto:
    """y = x + a row of eight numbers: fails on longer rows, as BERT beyond its positions."""
    return graph(
        [helper.make_node("Add", ["x", "positions"], ["y"])],
        [("x", TensorProto.FLOAT, ["batch", "length"])],
        [("y", TensorProto.FLOAT, ["batch", "length"])],
        {"positions": np.ones((1, 8), dtype=np.float32)},
    )


def mean_of_tokens(
    *, masked: bool, mask: str = "attention_mask", size: int = 100
) -> onnx.ModelProto:
    """A table of `size` tokens; `tokens` are their vectors, `pooled` the mean, by `mask` or not."""
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["tokens"]),
        helper.make_node("Cast", [mask], ["float_mask"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float_mask", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "one"], ["all"]),
    ]
    weight = "float_mask" if masked else "all"
    return _pooled_tokens(nodes, weight, {"zero": 0.0}, mask=mask, size=size)


def self_attention() -> onnx.ModelProto:
    """A table of 100 tokens that attend to each other, as far as the mask lets them.

    `tokens` are their vectors, `pooled` the mean. The scores of masked tokens are lowered, as
    in BERT: where all are masked, all attend to all.
    """
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["vectors"]),
        helper.make_node("Transpose", ["vectors"], ["transposed"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["vectors", "transposed"], ["scores"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["mask", "one"], ["masked"]),
        helper.make_node("Mul", ["masked", "large"], ["lowered"]),
        helper.make_node("Unsqueeze", ["lowered", "second"], ["lowered_columns"]),
        helper.make_node("Add", ["scores", "lowered_columns"], ["masked_scores"]),
        helper.make_node("Softmax", ["masked_scores"], ["shares"], axis=-1),
        helper.make_node("MatMul", ["shares", "vectors"], ["tokens"]),
    ]
    return _pooled_tokens(nodes, "mask", {"large": 1e9})


def _pooled_tokens(
    nodes: list[onnx.NodeProto],
    weight: str,
    numbers: Mapping[str, float],
    *,
    mask: str = "attention_mask",
    size: int = 100,
) -> onnx.ModelProto:
    """The graph of `nodes`, which make `tokens` of a table, and their mean by `weight`."""
    pooling = [
        helper.make_node("Unsqueeze", [weight, "last"], ["weights"]),
        helper.make_node("Mul", ["tokens", "weights"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "second"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["weights", "second"], ["count"], keepdims=0),
        helper.make_node("Div", ["sum", "count"], ["pooled"]),
    ]
    tokens: list[int | str | None] = ["batch", "sequence"]
    return graph(
        [*nodes, *pooling],
        [("input_ids", TensorProto.INT64, tokens), (mask, TensorProto.INT64, tokens)],
        [
            ("pooled", TensorProto.FLOAT, ["batch", 8]),
            ("tokens", TensorProto.FLOAT, [*tokens, 8]),
        ],
        {
            "table": np.random.default_rng(0).standard_normal((size, 8)).astype(np.float32),
            "one": np.array(1, dtype=np.float32),
            "last": np.array([-1], dtype=np.int64),
            "second": np.array([1], dtype=np.int64),
            **{name: np.array(value, dtype=np.float32) for name, value in numbers.items()},
        },
    )


def mean_of_numbers() -> onnx.ModelProto:
    """y = the mean of x over its second axis, which is free; there is no mask."""
    return graph(
        [helper.make_node("ReduceMean", ["x"], ["y"], axes=[1])],
        [("x", TensorProto.FLOAT, ["batch", "length"])],
        [("y", TensorProto.FLOAT, ["batch", 1])],
    )


def difference_of_signals() -> onnx.ModelProto:
    """y = the mean of a minus that of b, each with its own free length; there is no mask."""
    return graph(
        [
            helper.make_node("ReduceMean", ["a"], ["mean_a"], axes=[1]),
            helper.make_node("ReduceMean", ["b"], ["mean_b"], axes=[1]),
            helper.make_node("Sub", ["mean_a", "mean_b"], ["y"]),
        ],
        [(name, TensorProto.FLOAT, ["batch", "samples"]) for name in "ab"],
        [("y", TensorProto.FLOAT, ["batch", 1])],
    )


def rounded_layers(size: int) -> onnx.ModelProto:
    """Two layers of `size` numbers without biases, quantized as quantize_dynamic does.

    One scale for all rows of a batch: a row of zeros or ones comes out as it does alone.
    """
    random = np.random.default_rng(0)
    nodes, constants = [], {}
    for layer, (taken, given) in enumerate((("x", "hidden"), ("hidden", "y"))):
        names = [f"{part}{layer}" for part in ("rounded", "scale", "zero", "sum", "numbers")]
        rounded, scale, zero, total, numbers = names
        nodes += [
            helper.make_node("DynamicQuantizeLinear", [taken], [rounded, scale, zero]),
            helper.make_node("MatMulInteger", [rounded, f"weights{layer}", zero], [total]),
            helper.make_node("Cast", [total], [numbers], to=TensorProto.FLOAT),
            helper.make_node("Mul", [numbers, scale], [given]),
        ]
        constants[f"weights{layer}"] = random.integers(-100, 100, (size, size), dtype=np.int8)
    shape: list[int | str | None] = ["batch", size]
    return graph(
        nodes, [("x", TensorProto.FLOAT, shape)], [("y", TensorProto.FLOAT, shape)], constants
    )


def rounded_by_hand(size: int) -> onnx.ModelProto:
    """y = x rounded to 127 steps of the largest number of all rows, by ordinary operators."""
    shape: list[int | str | None] = ["batch", size]
    return graph(
        [
            helper.make_node("Abs", ["x"], ["sizes"]),
            helper.make_node("ReduceMax", ["sizes"], ["largest"]),
            helper.make_node("Div", ["largest", "steps"], ["step"]),
            helper.make_node("Div", ["x", "step"], ["in_steps"]),
            helper.make_node("Round", ["in_steps"], ["rounded"]),
            helper.make_node("Mul", ["rounded", "step"], ["y"]),
        ],
        [("x", TensorProto.FLOAT, shape)],
        [("y", TensorProto.FLOAT, shape)],
        {"steps": np.array(127, dtype=np.float32)},
    )


def spread_and_mean(size: int) -> onnx.ModelProto:
    """y = the mean of x times each of `size` numbers: takes `size` times the memory of x."""
    return graph(
        [
            helper.make_node("Unsqueeze", ["x", "last"], ["column"]),
            helper.make_node("Mul", ["column", "numbers"], ["spread"]),
            helper.make_node("Sin", ["spread"], ["wide"]),
            helper.make_node("ReduceMean", ["wide"], ["y"], axes=[1, 2], keepdims=0),
        ],
        [("x", TensorProto.FLOAT, ["batch", "length"])],
        [("y", TensorProto.FLOAT, ["batch"])],
        {
            "last": np.array([-1], dtype=np.int64),
            "numbers": np.random.default_rng(0).standard_normal(size).astype(np.float32),
        },
    )


def softmax_of_rows() -> onnx.ModelProto:
    """Softmax over the first axis: its name promises a batch that it is not."""
    return graph(
        [helper.make_node("Softmax", ["x"], ["y"], axis=0)],
        [("x", TensorProto.FLOAT, ["batch", 3])],
        [("y", TensorProto.FLOAT, ["batch", 3])],
    )


def save(
    repository: Path,
    name: str,
    model: onnx.ModelProto,
    *,
    version: int = 1,
    config: Mapping[str, object] | None = None,
) -> Path:
    """Put a model into a repository; return its file."""
    folder = repository / name / str(version)
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / "model.onnx")
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder / "model.onnx"


def save_text_bundle(
    repository: Path, name: str, bundle: Path, *, max_batch_rows: int, word: str = ""
) -> None:
    """Put a bundle into a repository: `bundle`'s tokenizer, and a small graph for its tokens.

    What a batch of a small graph costs hardly depends on its rows, on a busy machine either:
    all that waits together shares a batch. `word` has a token that the graph fails on.
    """
    folder = repository / name / "1"
    folder.mkdir(parents=True)
    tokenizer = json.loads((bundle / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    onnx.save(mean_of_tokens(masked=True, size=len(vocabulary)), folder / "text.onnx")
    if word:
        vocabulary[word] = len(vocabulary)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    manifest = json.loads((bundle / "manifest.json").read_text())
    outputs = {"pooled": "mean", "tokens": "none"}
    manifest |= {"name": name, "dimensions": 8}
    manifest["towers"][0] |= {
        "outputs": [
            {"name": output, "pooling": pooling, "normalized": False}
            for output, pooling in outputs.items()
        ],
        "max_batch_rows": max_batch_rows,
    }
    manifest["files"] = {
        file: hashlib.sha256((folder / file).read_bytes()).hexdigest()
        for file in ("text.onnx", "tokenizer.json")
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
