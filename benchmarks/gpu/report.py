"""What was measured of a workload, its ratios, and the table of all."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from io import StringIO
from math import isnan
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.gpu.model import Subject
from benchmarks.gpu.roofline import Limit
from benchmarks.gpu.server import Served
from benchmarks.gpu.timing import Timed

_WIDTH = 400
DRY_RUN = "dry run on a CPU: these figures say nothing of a card"


@dataclass(slots=True)
class Measured:
    """One workload: (a) ONNX Runtime, (b) PyTorch, (c) our server, and the limit.

    Cosines are the worst to PyTorch's fp32 on the CPU, and of (b) to (a).
    """

    subject: Subject
    cosine: float
    torch_cosine: float
    onnx_runtime: Timed
    torch: Timed
    limit: Limit
    served: list[Served] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return all of it, with the ratios that are asked of each."""
        return {
            "workload": self.subject.workload.name,
            "bundle": self.subject.manifest.name,
            "trained": self.subject.manifest.trained,
            "parity": {"min_cosine": self.cosine, "torch_min_cosine": self.torch_cosine},
            "onnx_runtime": asdict(self.onnx_runtime)
            | {"of_limit": self.onnx_runtime.items_per_s / self.limit.items_per_s},
            "torch": asdict(self.torch),
            "limit": asdict(self.limit),
            "served": [
                asdict(one)
                | {
                    "of_onnx_runtime": one.items_per_s / self.onnx_runtime.items_per_s,
                    "of_torch": one.items_per_s / self.torch.items_per_s,
                }
                for one in self.served
            ],
        }


def page(found: Sequence[Measured], caveat: str, environment: dict[str, Any]) -> str:
    """Return the table as Markdown, and under it where it was measured."""
    console = Console(file=StringIO(), width=_WIDTH)
    console.print(_table(found, caveat))
    file = console.file
    assert isinstance(file, StringIO)
    lines = [line.strip() for line in file.getvalue().splitlines() if line.strip()]
    where = [f"- {name}: {value}" for name, value in environment.items()]
    return "\n".join([*lines, "", *where, ""])


def _table(found: Sequence[Measured], caveat: str) -> Table:
    """Return a row for every load of our server, each workload's figures in its first."""
    built = Table(box=box.MARKDOWN)
    # In the table itself: a table is what gets copied out of a page.
    built.add_column(caveat or "workload")
    for heading in (
        *("(a) ORT items/s", "(b) torch items/s", "limit items/s", "(a)/limit"),
        *("items x streams", "(c) items/s", "p50 ms", "p99 ms", "GPU %", "(c)/(a)", "(c)/(b)"),
    ):
        built.add_column(heading, justify="right")
    for one in found:
        trained = "" if one.subject.manifest.trained else " UNTRAINED"
        batch = one.onnx_runtime.rows
        head = [
            one.subject.workload.name + trained,
            f"{one.onnx_runtime.items_per_s:.1f} (batch {batch})",
            f"{one.torch.items_per_s:.1f} (batch {one.torch.rows})",
            f"{one.limit.items_per_s:.1f} ({one.limit.bound})",
            f"{one.onnx_runtime.items_per_s / one.limit.items_per_s:.2f}",
        ]
        for served in one.served:
            busy = served.utilisation_percent
            built.add_row(
                *head,
                f"{served.items} x {served.streams}",
                "errors" if served.errors else f"{served.items_per_s:.1f}",
                "" if isnan(served.p50_ms) else f"{served.p50_ms:.2f}",
                "" if isnan(served.p99_ms) else f"{served.p99_ms:.2f}",
                "" if busy is None else f"{busy:.0f}",
                f"{served.items_per_s / one.onnx_runtime.items_per_s:.2f}",
                f"{served.items_per_s / one.torch.items_per_s:.2f}",
            )
            head = [""] * len(head)
    return built
