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
from vecserve_export.half import halve
from vecserve_export.optimize import optimize
from vecserve_export.plan import Plan, TowerPlan
from vecserve_export.quantize import quantize
from vecserve_export.request import Precision, Request
from vecserve_export.rounding import round_as_fp16
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
    written = staged / graph
    optimized = written
    if precision != "fp32":
        optimized = scratch / f"optimized-{graph}" / graph
        optimized.parent.mkdir()
    optimize(traced, optimized)
    if precision == "fp16":
        report(f"halving {graph}")
        halve(optimized, written)
    elif precision == "int8":
        report(f"quantizing {graph}")
        quantize(optimized, written, [case.feeds for case in tower.cases])
    report(f"comparing {graph} with PyTorch")
    tolerance = verify.TOLERANCES[precision]
    parity = verify.verify(tower, written, plan.dimensions, tolerance)
    if precision == "fp16":
        # As it is, a CPU hardly rounds.
        rounding = staged / f"rounding-{graph}"
        round_as_fp16(written, rounding)
        parity = verify.worst([parity, verify.verify(tower, rounding, plan.dimensions, tolerance)])
        rounding.unlink()
    return parity
