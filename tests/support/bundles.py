"""Bundles of small graphs that tests write themselves."""

from pathlib import Path

import onnx
from onnx import helper

from vecserve_server.repository.manifest import (
    MANIFEST_FILE,
    Manifest,
    Parity,
    Source,
    Tower,
    sha256_of,
)

OPSET = 17


def write_bundle(repository: Path, graph: onnx.GraphProto, tower: Tower, dimensions: int) -> None:
    """Write a bundle of one tower, named as its graph is."""
    folder = repository / graph.name / "1"
    folder.mkdir(parents=True)
    opset = helper.make_opsetid("", OPSET)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), folder / tower.graph)
    manifest = Manifest(
        name=graph.name,
        version="1",
        description="a small graph",
        license="Apache-2.0",
        trained=False,
        source=Source(kind="untrained", location="none", revision="none"),
        dimensions=dimensions,
        precision="fp32",
        opset=OPSET,
        towers=(tower,),
        parity=Parity(
            max_abs_error=0.0,
            min_cosine=1.0,
            max_abs_error_allowed=None,
            min_cosine_allowed=None,
            cases=("none",),
        ),
        files={tower.graph: sha256_of(folder / tower.graph)},
        exporter="a test",
    )
    (folder / MANIFEST_FILE).write_text(manifest.model_dump_json())
