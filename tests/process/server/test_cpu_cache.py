"""Graphs compiled for the CPU: read where they lie, never trusted, never needed."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper
from tritonclient.grpc import InferenceServerClient

from tests.contract.oip.requests import inputs
from tests.process.oip.graphs import graph, save
from tests.support.server_process import ServerProcess

# Of a row. 2,028 bytes: weights behind such a tensor start between two multiples of 64.
ODD, EVEN, COLUMNS = 507, 512, 96


class Model:
    """y = (x + shift) @ weights for rows of `size` numbers, all drawn with `seed`."""

    def __init__(self, size: int, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        shift = random.normal(size=size).astype(np.float32)
        weights = random.normal(size=(size, COLUMNS)).astype(np.float32)
        self.graph = graph(
            [
                helper.make_node("Add", ["x", "shift"], ["moved"]),
                helper.make_node("MatMul", ["moved", "weights"], ["y"]),
            ],
            [("x", TensorProto.FLOAT, ["batch", size])],
            [("y", TensorProto.FLOAT, ["batch", COLUMNS])],
            {"shift": shift, "weights": weights},
        )
        self.rows = random.normal(size=(8, size)).astype(np.float32)
        self.expected = (self.rows + shift) @ weights

    def assert_right(self, server: ServerProcess, name: str) -> None:
        with InferenceServerClient(server.address) as client:
            got = client.infer(name, inputs(x=self.rows)).as_numpy("y")
        np.testing.assert_allclose(got, self.expected, atol=1e-4 * np.abs(self.expected).max())


def test_weights_behind_a_tensor_of_odd_size(tmp_path: Path) -> None:
    model = Model(ODD)
    save(tmp_path / "models", "odd", model.graph)
    with ServerProcess(tmp_path / "models", "--cache", str(tmp_path / "cache")) as server:
        model.assert_right(server, "odd")


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x40
    file.write_bytes(content)


def cut_in_half(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


DAMAGES: list[tuple[str, Callable[[Path], None]]] = [
    ("weights.bin", flip_a_bit),
    ("weights.bin", cut_in_half),
    ("weights.bin", Path.unlink),
    ("graph.onnx", cut_in_half),
    ("SHA256SUMS", flip_a_bit),
    ("SHA256SUMS", cut_in_half),
    ("SHA256SUMS", Path.unlink),
]


def test_damaged_entries_are_compiled_again(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    models = {f"m{seed}": Model(EVEN, seed) for seed in range(len(DAMAGES))}
    for name, model in models.items():
        save(tmp_path / "models", name, model.graph)

    def compiled_again() -> int:
        with ServerProcess(tmp_path / "models", "--cache", str(cache)) as server:
            for name, model in models.items():
                model.assert_right(server, name)
            return server.log.count("is compiled again")

    assert compiled_again() == 0
    entries = list(cache.glob("compiled/*"))
    for entry, (file, damage) in zip(entries, DAMAGES, strict=True):
        damage(entry / file)
    assert compiled_again() == len(DAMAGES)
    assert compiled_again() == 0
    # Nothing of what was damaged is left.
    assert set(cache.glob("compiled/*")) == set(entries)


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    model = Model(EVEN)
    save(tmp_path / "models", "m", model.graph)
    (tmp_path / "file").touch()
    with ServerProcess(tmp_path / "models", "--cache", str(tmp_path / "file" / "cache")) as server:
        assert "runs without a compiled copy" in server.log
        model.assert_right(server, "m")


def test_a_full_disk_is_done_without(tmp_path: Path) -> None:
    model = Model(EVEN)
    save(tmp_path / "models", "m", model.graph)
    cache = tmp_path / "cache"
    with ServerProcess(
        tmp_path / "models", "--cache", str(cache), module="tests.support.full_disk"
    ) as server:
        assert "runs without a compiled copy" in server.log
        model.assert_right(server, "m")
    assert not list(cache.glob("compiled/*"))
