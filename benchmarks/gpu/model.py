"""Model under test: its ONNX graph, its PyTorch module, and input rows for both."""

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks.gpu.workloads import Workload
from benchmarks.servers import ROOT
from vecserve.bench.load import Load
from vecserve.bench.workload import token_ids
from vecserve_export import weights
from vecserve_export.families import pretrained
from vecserve_export.families.registry import family_of
from vecserve_export.plan import Feeds, Plan, TowerPlan
from vecserve_export.request import Request
from vecserve_server.repository.manifest import MANIFEST_FILE, Manifest, Pooling

_CACHE = ROOT / ".cache" / "vecserve"


@dataclass(frozen=True, slots=True)
class ModelUnderTest:
    """A workload's graph: the bundle in `folder`, and `tower`, with the PyTorch module."""

    workload: Workload
    folder: Path
    manifest: Manifest
    tower: TowerPlan

    @property
    def graph(self) -> Path:
        """The ONNX file."""
        return self.folder / self.tower.tower.graph

    @property
    def output(self) -> int:
        """Index of the output that is measured: the first with one vector an item."""
        poolings = [output.pooling is Pooling.NONE for output in self.tower.tower.outputs]
        return poolings.index(False)

    def feeds(self, rows: int) -> Feeds:
        """Return inputs of `rows` rows: tokens, or an input of the exporter's repeated."""
        if self.workload.kind == "text":
            length = self.workload.tokens
            ids = np.array(token_ids(Load(tokens=(length, length)), rows), np.int64)
            return {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        feeds = self.tower.cases[0].feeds
        return {name: np.repeat(feed[:1], rows, axis=0) for name, feed in feeds.items()}


def export(models: set[str], repository: Path, precision: str) -> None:
    """Export the models that `repository` lacks; those without weights get random ones.

    Speed does not depend on them. Raises subprocess.CalledProcessError.
    """
    command = [sys.executable, "-m", "vecserve_export", *sorted(models), "--untrained"]
    options = ["--precision", precision, "--output", str(repository), "--cache", str(_CACHE)]
    subprocess.run([*command, *options], check=True)


def load(workload: Workload, repository: Path, precision: str) -> ModelUnderTest:
    """Read a workload's bundle, and its PyTorch module from the bundle's source."""
    name = workload.model if precision == "fp32" else f"{workload.model}-{precision}"
    folder = repository / name / "1"
    manifest = Manifest.model_validate_json((folder / MANIFEST_FILE).read_bytes())
    plan = _plan(workload.model, manifest.source.kind)
    traced = [one for one in plan.towers if isinstance(one, TowerPlan)]
    (tower,) = [one for one in traced if one.tower.input.kind == workload.kind]
    return ModelUnderTest(workload, folder, manifest, tower)


@cache
def _plan(model: str, source: str) -> Plan:
    request = Request(model, source, allow_untrained=True, cache=_CACHE)
    with tempfile.TemporaryDirectory() as scratch, pretrained.quiet():
        checkpoint = weights.obtain(request, Path(scratch))
        return family_of(checkpoint).plan(checkpoint)
