"""What holds another provider to fp32: the same graph passes, a wrong one is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from vecserve_server.engine.engine import Engine, Job
from vecserve_server.engine.padding import GraphSpec
from vecserve_server.engine.session import GraphError, Session
from vecserve_server.engine.watchdog import Watchdog
from vecserve_server.loading.parity import check_parity
from vecserve_server.modalities.base import Modality
from vecserve_server.modalities.content import Limits
from vecserve_server.modalities.registry import build_modality
from vecserve_server.repository.bundle import Bundle, read_bundle
from vecserve_server.serving.tower import to_job


def engine_of(graph: Path, modality: Modality[Any, Any], cache: Path) -> Engine:
    session = Session(graph, graph.parent.name, cores=1, cache=cache)
    return Engine("graph", session, GraphSpec(modality.pads, frozenset()), Watchdog(60.0, cores=1))


def modality_of(bundle: Bundle) -> Modality[Any, Any]:
    return build_modality(bundle.manifest.towers[0].input, bundle.folder, Limits())


def jobs_of(bundle: Bundle, modality: Modality[Any, Any]) -> list[Job]:
    names = [one.name for one in bundle.manifest.towers[0].outputs if one.pooling != "none"]
    return [to_job(row, tuple(names)) for row in modality.probe_rows()]


def bundle_of(repository: Path, name: str) -> Bundle:
    return read_bundle(repository / name / "1")


@pytest.mark.parametrize("name", ["all-MiniLM-L6-v2", "resnet-50", "whisper-base"])
def test_same_graph_passes(name: str, repository: Path, tmp_path: Path) -> None:
    bundle = bundle_of(repository, name)
    tower = bundle.manifest.towers[0]
    modality = modality_of(bundle)
    engine = engine_of(bundle.folder / tower.graph, modality, tmp_path)
    assert check_parity(engine, engine, jobs_of(bundle, modality), name, "cpu") == pytest.approx(
        1.0, abs=1e-6
    )


@pytest.mark.parametrize("wrong", [0.0, np.nan])
def test_graph_that_computes_something_else_is_refused(
    wrong: float, repository: Path, tmp_path: Path
) -> None:
    bundle = bundle_of(repository, "all-MiniLM-L6-v2")
    tower = bundle.manifest.towers[0]
    graph = bundle.folder / tower.graph
    model = onnx.load(graph)
    matrix = next(tensor for tensor in model.graph.initializer if list(tensor.dims) == [384, 384])
    matrix.CopyFrom(
        numpy_helper.from_array(numpy_helper.to_array(matrix) * np.float32(wrong), matrix.name)
    )
    (tmp_path / "changed").mkdir()
    changed = tmp_path / "changed" / "text.onnx"
    onnx.save(model, changed)
    modality = modality_of(bundle)
    with pytest.raises(GraphError, match="start with --provider all-MiniLM-L6-v2=cpu"):
        check_parity(
            engine_of(changed, modality, tmp_path / "cache"),
            engine_of(graph, modality, tmp_path / "cache"),
            jobs_of(bundle, modality),
            "all-MiniLM-L6-v2",
            "openvino",
        )
