"""One model, from its weights to its bundle."""

import re
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from vecserve_export import bundle, pretrained, verify, weights
from vecserve_export.convert import convert
from vecserve_export.errors import Unsupported
from vecserve_export.families import family_of
from vecserve_export.optimize import optimize
from vecserve_export.plan import Plan, TowerPlan
from vecserve_export.quantize import quantize
from vecserve_export.request import Precision, Request
from vecserve_server.repository.manifest import MANIFEST_FILE, Manifest, Parity

_MAKERS = ("vecserve", "torch", "transformers", "onnx", "onnxruntime")
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"


def export(
    request: Request, repository: Path, opset: int, report: Callable[[str], None]
) -> Manifest:
    """Make a model's bundle and return its manifest. `report` is told each step.

    Raises ExportError, and then has written nothing.
    """
    if not re.fullmatch(_NAME, request.name):
        raise Unsupported(f"{request.name!r} cannot be a bundle's name: rename the folder")
    with tempfile.TemporaryDirectory() as temporary, pretrained.quiet():
        scratch = Path(temporary)
        report("getting weights")
        (scratch / "checkpoint").mkdir()
        checkpoint = weights.obtain(request, scratch / "checkpoint")
        report("running PyTorch")
        plan = family_of(checkpoint).plan(checkpoint)
        with bundle.staging(repository, request.name) as staged:
            parity = verify.worst(
                [
                    _make_graph(tower, plan, opset, request.precision, scratch, staged, report)
                    for tower in plan.towers
                ]
            )
            for name, content in plan.files.items():
                (staged / name).write_bytes(content)
            manifest = Manifest(
                name=request.name,
                version=bundle.VERSION,
                description=plan.description,
                license=checkpoint.license,
                trained=checkpoint.trained,
                source=checkpoint.source,
                dimensions=plan.dimensions,
                precision=request.precision,
                opset=opset,
                towers=tuple(tower.tower for tower in plan.towers),
                parity=parity,
                files=bundle.hashes(staged),
                exporter=", ".join(f"{maker} {version(maker)}" for maker in _MAKERS),
            )
            (staged / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=2) + "\n", "utf-8")
    return manifest


def _make_graph(
    tower: TowerPlan,
    plan: Plan,
    opset: int,
    precision: Precision,
    scratch: Path,
    staged: Path,
    report: Callable[[str], None],
) -> Parity:
    graph = tower.tower.graph
    traced = scratch / f"traced-{graph}" / graph
    traced.parent.mkdir()
    report(f"converting to {graph}")
    convert(tower, opset, traced)
    report(f"optimising {graph}")
    if precision == "int8":
        optimized = scratch / f"optimized-{graph}" / graph
        optimized.parent.mkdir()
        optimize(traced, optimized)
        report(f"quantizing {graph}")
        quantize(optimized, staged / graph, [case.feeds for case in tower.cases])
    else:
        optimize(traced, staged / graph)
    report(f"comparing {graph} with PyTorch")
    return verify.verify(tower, staged / graph, plan.dimensions, verify.TOLERANCES[precision])
