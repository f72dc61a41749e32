"""ONNX operators on integers for a float32 multiplication by a weight matrix.

Row r of the activations x has the scale s[r] = max |x[r]| / 127, column c of
the weights w has t[c] = max |w[:, c]| / 63:

    x w  ~  round(x / s) round(w / t) s t
"""

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, TensorProto, helper, numpy_helper

_Array = npt.NDArray[np.float32]

# Activations are 128 +- 127, unsigned: by signed ones ONNX Runtime multiplies
# a tenth as fast on x86.
_ZERO_POINT, _ACTIVATION_MAX = 128, 127
# Weights have 7 bits. An x86 processor without VNNI adds two products in 16
# bits and saturates: 2 * 255 * 63 still fits, so vectors are right everywhere.
_WEIGHT_MAX = 63
# A row of zeros needs a scale too.
_LEAST_MAX = 1e-30
# From this operator set on, ReduceMax takes its axes as an input.
_OPSET_OF_AXES_INPUT = 18


class Int8MatMulBuilder:
    """Builds nodes and collects the constants they need."""

    def __init__(self, opset: int) -> None:
        self.constants: list[TensorProto] = []
        self._last_axis = self._constant("int8/last_axis", np.array([-1], np.int64))
        self._step = self._constant("int8/step", np.float32(1 / _ACTIVATION_MAX))
        self._least_max = self._constant("int8/least_max", np.float32(_LEAST_MAX))
        self._zero_point = self._constant("int8/zero_point", np.uint8(_ZERO_POINT))
        self._axes_are_an_input = opset >= _OPSET_OF_AXES_INPUT

    def quantize(self, x: str, divisor: _Array | None, width: int) -> list[NodeProto]:
        """Return nodes that make integers of the rows of x, float32 [..., width].

        `divisor`, float32 [width], divides x beforehand.
        """
        nodes, source = [], x
        if divisor is not None:
            source = f"{x}/divided"
            factor = self._constant(f"{x}/factor", 1 / divisor)
            nodes.append(helper.make_node("Mul", [x, factor], [source]))
        # QuantizeLinear has a scale and a zero point a row of a matrix.
        matrix = self._constant(f"{x}/matrix", np.array([-1, width], np.int64))
        zero_point = numpy_helper.from_array(np.array([_ZERO_POINT], np.uint8))
        return [
            *nodes,
            helper.make_node("Abs", [source], [f"{x}/abs"]),
            self._max_of_rows(f"{x}/abs", f"{x}/max"),
            helper.make_node("Max", [f"{x}/max", self._least_max], [f"{x}/safe_max"]),
            helper.make_node("Mul", [f"{x}/safe_max", self._step], [f"{x}/scale"]),
            helper.make_node("Reshape", [f"{x}/scale", self._last_axis], [f"{x}/scales"]),
            helper.make_node("Shape", [f"{x}/scales"], [f"{x}/rows"]),
            helper.make_node(
                "ConstantOfShape", [f"{x}/rows"], [f"{x}/zero_points"], value=zero_point
            ),
            helper.make_node("Reshape", [source, matrix], [f"{x}/flat"]),
            helper.make_node(
                "QuantizeLinear",
                [f"{x}/flat", f"{x}/scales", f"{x}/zero_points"],
                [f"{x}/flat_integers"],
                axis=0,
            ),
            helper.make_node("Shape", [x], [f"{x}/shape"]),
            helper.make_node("Reshape", [f"{x}/flat_integers", f"{x}/shape"], [f"{x}/integers"]),
        ]

    def multiply(self, x: str, weights: _Array, product: str) -> list[NodeProto]:
        """Return nodes that multiply the integers of x by `weights`, float32 [width, columns]."""
        scale = np.maximum(np.abs(weights).max(axis=0), _LEAST_MAX) / _WEIGHT_MAX
        integers = self._constant(f"{product}/weights", np.rint(weights / scale).astype(np.int8))
        columns = self._constant(f"{product}/scales", scale.astype(np.float32))
        return [
            helper.make_node(
                "MatMulInteger",
                [f"{x}/integers", integers, self._zero_point],
                [f"{product}/integers"],
            ),
            helper.make_node(
                "Cast", [f"{product}/integers"], [f"{product}/float"], to=TensorProto.FLOAT
            ),
            helper.make_node("Mul", [f"{product}/float", columns], [f"{product}/steps"]),
            helper.make_node("Mul", [f"{product}/steps", f"{x}/scale"], [product]),
        ]

    def _max_of_rows(self, x: str, maxima: str) -> NodeProto:
        if self._axes_are_an_input:
            return helper.make_node("ReduceMax", [x, self._last_axis], [maxima], keepdims=1)
        return helper.make_node("ReduceMax", [x], [maxima], axes=[-1], keepdims=1)

    def _constant(self, name: str, value: npt.NDArray[np.generic] | np.generic) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name
