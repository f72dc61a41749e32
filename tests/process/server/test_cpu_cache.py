"""Graphs compiled for the CPU: weights behind a tensor of an odd size are read where they lie."""

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper
from tritonclient.grpc import InferenceServerClient

from tests.contract.oip.requests import inputs
from tests.process.oip.graphs import graph, save
from tests.support.server_process import ServerProcess


def test_weights_behind_a_tensor_of_odd_size(tmp_path: Path) -> None:
    odd, columns = 507, 96  # 2,028 bytes: the weights start between two multiples of 64
    random = np.random.default_rng(0)
    shift = random.normal(size=odd).astype(np.float32)
    weights = random.normal(size=(odd, columns)).astype(np.float32)
    model = graph(
        [
            helper.make_node("Add", ["x", "shift"], ["moved"]),
            helper.make_node("MatMul", ["moved", "weights"], ["y"]),
        ],
        [("x", TensorProto.FLOAT, ["batch", odd])],
        [("y", TensorProto.FLOAT, ["batch", columns])],
        {"shift": shift, "weights": weights},
    )
    save(tmp_path / "models", "odd", model)
    rows = random.normal(size=(8, odd)).astype(np.float32)
    with (
        ServerProcess(tmp_path / "models", "--cache", str(tmp_path / "cache")) as server,
        InferenceServerClient(server.address) as client,
    ):
        got = client.infer("odd", inputs(x=rows)).as_numpy("y")
    expected = (rows + shift) @ weights
    np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())
