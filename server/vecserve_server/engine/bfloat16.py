"""bfloat16 inputs and outputs of graphs, which numpy does not know.

Arrays hold its 16 bits as uint16.
"""

import ctypes
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from vecserve_server.engine.tensors import BF16

Array = npt.NDArray[np.generic]

# onnx.TensorProto.BFLOAT16.
_ONNX_BFLOAT16 = 16


def run_with_bfloat16(
    session: ort.InferenceSession,
    feeds: Mapping[str, Array],
    outputs: Sequence[str],
    options: ort.RunOptions,
) -> list[Array]:
    """Do what `session.run` does. Raises what ONNX Runtime raises."""
    types = {node.name: node.type for node in session.get_inputs()}
    values = {
        name: (
            ort.OrtValue.ortvalue_from_numpy_with_onnx_type(
                np.ascontiguousarray(feed), _ONNX_BFLOAT16
            )
            if types[name] == BF16.ort
            else ort.OrtValue.ortvalue_from_numpy(feed)
        )
        for name, feed in feeds.items()
    }
    return [
        _to_numpy(value) for value in session.run_with_ort_values(list(outputs), values, options)
    ]


def _to_numpy(value: ort.OrtValue) -> Array:
    if value.data_type() != BF16.ort:
        array: Array = value.numpy()
        return array
    # ONNX Runtime converts no bfloat16; its memory is this process's own.
    data = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    return np.frombuffer(data, dtype=BF16.numpy).reshape(value.shape())
