"""--precision fp16 and int8: bundles of their own, verified or not written."""

from pathlib import Path

import onnx
import pytest
from onnxruntime.quantization import QuantType, quantize_dynamic

from tests.export.conftest import Command
from vecserve_export import export as exporting
from vecserve_export import verify
from vecserve_server.repository.manifest import MANIFEST_FILE, Manifest


def manifest_of(folder: Path) -> Manifest:
    return Manifest.model_validate_json((folder / MANIFEST_FILE).read_bytes())


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("tiny-bert", "fp16"),
        ("tiny-clip", "fp16"),
        ("tiny-resnet", "fp16"),
        ("tiny-whisper", "fp16"),
        ("tiny-bert", "int8"),
        ("tiny-clip", "int8"),
        ("tiny-whisper", "int8"),
    ],
)
def test_bundle_is_written_beside_the_fp32_one(
    name: str, precision: str, checkpoints: Path, command: Command, repository: Path
) -> None:
    for each in ("fp32", precision):
        result = command(checkpoints / name, "--precision", each)
        assert result.exit_code == 0, result.output
    assert {path.name for path in repository.iterdir()} == {name, f"{name}-{precision}"}
    folder = repository / f"{name}-{precision}" / "1"
    fp32, other = manifest_of(repository / name / "1"), manifest_of(folder)
    assert (fp32.precision, other.precision) == ("fp32", precision)
    assert other.name == f"{name}-{precision}"
    assert other.towers == fp32.towers
    assert set(other.files) == set(fp32.files)
    assert {path.name for path in folder.iterdir()} == {MANIFEST_FILE, *other.files}
    assert other.parity.cases == fp32.parity.cases


@pytest.mark.parametrize(
    ("precision", "conversion"), [("fp16", "convert_to_fp16"), ("int8", "quantize")]
)
def test_graph_whose_vectors_depend_on_neighbours_is_not_written(
    precision: str,
    conversion: str,
    checkpoints: Path,
    command: Command,
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def per_batch(source: Path, target: Path, *_: object) -> None:
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=["MatMul"],
            weight_type=QuantType.QInt8,
            # Of fused attention it knows none.
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )

    monkeypatch.setattr(exporting, conversion, per_batch)
    allowed = verify.TOLERANCES[precision].max_neighbour_error
    monkeypatch.setitem(
        verify.TOLERANCES, precision, verify.Tolerance(None, None, None, 0.0, allowed)
    )
    result = command(checkpoints / "tiny-bert", "--precision", precision)
    assert result.exit_code == 1
    assert "other neighbours change a vector by" in result.stderr
    assert list(repository.iterdir()) == []
