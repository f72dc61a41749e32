"""Results of a workload, its ratios, and the table of all workloads."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from io import StringIO
from math import isnan
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.gpu.model import ModelUnderTest
from benchmarks.gpu.roofline import Roofline
from benchmarks.gpu.server import ServerFigures
from benchmarks.gpu.timing import Timing

_WIDTH = 400
DRY_RUN = "dry run on a CPU: these figures say nothing of a card"


@dataclass(slots=True)
class WorkloadResult:
    """One workload: (a) ONNX Runtime, (b) PyTorch, (c) vecserve, and the roofline.

    Cosines are the worst to PyTorch's fp32 on the CPU, and of (b) to (a).
    """

    model: ModelUnderTest
    cosine: float
    torch_cosine: float
    onnx_runtime: Timing
    torch: Timing
    roofline: Roofline
    server: list[ServerFigures] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return all figures with their ratios."""
        return {
            "workload": self.model.workload.name,
            "bundle": self.model.manifest.name,
            "trained": self.model.manifest.trained,
            "parity": {"min_cosine": self.cosine, "torch_min_cosine": self.torch_cosine},
            "onnx_runtime": asdict(self.onnx_runtime)
            | {"of_roofline": self.onnx_runtime.items_per_s / self.roofline.items_per_s},
            "torch": asdict(self.torch),
            "roofline": asdict(self.roofline),
            "server": [
                asdict(one)
                | {
                    "of_onnx_runtime": one.items_per_s / self.onnx_runtime.items_per_s,
                    "of_torch": one.items_per_s / self.torch.items_per_s,
                }
                for one in self.server
            ],
        }


def page(found: Sequence[WorkloadResult], caveat: str, environment: dict[str, Any]) -> str:
    """Return the table as Markdown, and under it the environment."""
    console = Console(file=StringIO(), width=_WIDTH)
    console.print(_table(found, caveat))
    file = console.file
    assert isinstance(file, StringIO)
    lines = [line.strip() for line in file.getvalue().splitlines() if line.strip()]
    where = [f"- {name}: {value}" for name, value in environment.items()]
    return "\n".join([*lines, "", *where, ""])


def _table(found: Sequence[WorkloadResult], caveat: str) -> Table:
    """Return a row for every load of the server, each workload's figures in its first."""
    built = Table(box=box.MARKDOWN)
    # In the table itself: a table is what gets copied out of a page.
    built.add_column(caveat or "workload")
    for heading in (
        *("(a) ORT items/s", "(b) torch items/s", "roofline items/s", "(a)/roofline"),
        *("items x streams", "(c) items/s", "p50 ms", "p99 ms", "GPU %", "(c)/(a)", "(c)/(b)"),
    ):
        built.add_column(heading, justify="right")
    for one in found:
        trained = "" if one.model.manifest.trained else " UNTRAINED"
        batch = one.onnx_runtime.rows
        head = [
            one.model.workload.name + trained,
            f"{one.onnx_runtime.items_per_s:.1f} (batch {batch})",
            f"{one.torch.items_per_s:.1f} (batch {one.torch.rows})",
            f"{one.roofline.items_per_s:.1f} ({one.roofline.bound})",
            f"{one.onnx_runtime.items_per_s / one.roofline.items_per_s:.2f}",
        ]
        for load in one.server:
            busy = load.utilisation_percent
            built.add_row(
                *head,
                f"{load.items} x {load.streams}",
                "errors" if load.errors else f"{load.items_per_s:.1f}",
                "" if isnan(load.p50_ms) else f"{load.p50_ms:.2f}",
                "" if isnan(load.p99_ms) else f"{load.p99_ms:.2f}",
                "" if busy is None else f"{busy:.0f}",
                f"{load.items_per_s / one.onnx_runtime.items_per_s:.2f}",
                f"{load.items_per_s / one.torch.items_per_s:.2f}",
            )
            head = [""] * len(head)
    return built
