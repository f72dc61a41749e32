"""Export of one model: weights, plan, graphs, verification, bundle."""

import re
import shutil
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from vecserve_export import bundle, verify, weights
from vecserve_export.errors import Unsupported
from vecserve_export.families import pretrained
from vecserve_export.families.registry import family_of
from vecserve_export.graph.fp16 import convert_to_fp16
from vecserve_export.graph.fp16_emulation import emulate_fp16
from vecserve_export.graph.fused_attention import fuse_attention, join_heads
from vecserve_export.graph.int8 import quantize
from vecserve_export.graph.optimize import optimize
from vecserve_export.graph.trace import trace
from vecserve_export.plan import GraphTowerPlan, Plan, TowerPlan
from vecserve_export.request import Precision, Request
from vecserve_export.self_consistency import opset_of, verify_graph
from vecserve_server.repository.manifest import MANIFEST_FILE, Manifest, Parity

_MADE_WITH = ("vecserve", "torch", "transformers", "onnx", "onnxruntime")
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"


def export(
    request: Request, repository: Path, opset: int, report: Callable[[str], None]
) -> Manifest:
    """Make a model's bundle and return its manifest. `report` is called with each step.

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
        precision = request.precision
        if too_long := [n for n in request.matryoshka_dimensions if n >= plan.dimensions]:
            raise Unsupported(
                f"--matryoshka {too_long[0]}: {request.name} has vectors of {plan.dimensions} "
                "numbers, which can be cut to fewer only"
            )
        for tower in plan.towers:
            if isinstance(tower, TowerPlan):
                report(f"tracing {tower.tower.graph}")
                traced = _traced(scratch, tower)
                if precision == "fp16":
                    fuse_attention(tower.module)
                trace(tower, opset, traced)
                if precision == "fp16":
                    join_heads(traced)
        _free_weights(plan)
        with bundle.staging(repository, request.name) as staged:
            parities = []
            for tower in plan.towers:
                if isinstance(tower, GraphTowerPlan):
                    if request.precision != "fp32":
                        raise Unsupported(
                            f"{request.name}: its graph is {tower.precision} as it was "
                            "published; leave --precision out"
                        )
                    parities.append(_copy_graph(tower, plan, staged, report))
                    precision, opset = tower.precision, opset_of(tower.graph)
                else:
                    parities.append(_make_graph(tower, plan, precision, scratch, staged, report))
            for name, content in plan.files.items():
                (staged / name).write_bytes(content)
            manifest = Manifest(
                name=request.name,
                version=bundle.VERSION,
                description=plan.description,
                license=checkpoint.license,
                license_files=plan.license_files,
                trained=checkpoint.trained,
                source=checkpoint.source,
                dimensions=plan.dimensions,
                matryoshka_dimensions=request.matryoshka_dimensions,
                precision=precision,
                opset=opset,
                towers=tuple(tower.tower for tower in plan.towers),
                parity=verify.worst(parities),
                files=bundle.hashes(staged),
                exporter=", ".join(f"{package} {version(package)}" for package in _MADE_WITH),
            )
            (staged / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=2) + "\n", "utf-8")
    return manifest


def _traced(scratch: Path, tower: TowerPlan) -> Path:
    """Return where a tower's graph is traced to, in a folder of its own."""
    folder = scratch / f"traced-{tower.tower.graph}"
    folder.mkdir(exist_ok=True)
    return folder / tower.tower.graph


def _free_weights(plan: Plan) -> None:
    """Free the memory of PyTorch's weights, once all is traced.

    What they give is in the cases already, and ONNX Runtime needs room for its own.
    """
    for tower in plan.towers:
        if isinstance(tower, TowerPlan):
            tower.module.to("meta")


def _copy_graph(
    tower: GraphTowerPlan, plan: Plan, staged: Path, report: Callable[[str], None]
) -> Parity:
    report(f"comparing {tower.tower.graph} with itself")
    parity = verify_graph(tower, plan.dimensions)
    shutil.copyfile(tower.graph, staged / tower.tower.graph)
    return parity


def _make_graph(
    tower: TowerPlan,
    plan: Plan,
    precision: Precision,
    scratch: Path,
    staged: Path,
    report: Callable[[str], None],
) -> Parity:
    graph = tower.tower.graph
    report(f"optimising {graph}")
    written = staged / graph
    optimized = written
    if precision != "fp32":
        optimized = scratch / f"optimized-{graph}" / graph
        optimized.parent.mkdir()
    traced = _traced(scratch, tower)
    optimize(traced, optimized)
    shutil.rmtree(traced.parent)  # as large as the weights, and often in memory
    if precision == "fp16":
        report(f"converting {graph} to fp16")
        convert_to_fp16(optimized, written, tower.fp32_modules)
    elif precision == "int8":
        report(f"quantizing {graph} to int8")
        quantize(optimized, written, [case.feeds for case in tower.cases])
    report(f"comparing {graph} with PyTorch")
    tolerance = verify.TOLERANCES[precision]
    parity = verify.verify(tower, written, plan.dimensions, tolerance)
    if precision == "fp16":
        # A CPU computes fp16 operators in fp32, and so hardly rounds.
        emulated = staged / f"emulated-{graph}"
        emulate_fp16(written, emulated)
        parity = verify.worst([parity, verify.verify(tower, emulated, plan.dimensions, tolerance)])
        emulated.unlink()
    return parity
