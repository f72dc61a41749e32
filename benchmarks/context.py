"""Context of a benchmark run: servers, targets, the plan, thresholds and results."""

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from benchmarks.servers import PEERS, ROOT, Peer, VecserveServer, has_oip
from vecserve.bench.load import Load
from vecserve.bench.measure import Case, Part, Plan, measure
from vecserve.bench.report import results, table
from vecserve.bench.statistics import pooled_percentile
from vecserve.bench.targets import Target
from vecserve.bench.workers import open_workers

MINILM = "all-MiniLM-L6-v2"
VECSERVE, IN_PROCESS = "vecserve", "in-process"
"""Names of the targets that every run has: our server, and ONNX Runtime without one."""

Relation = Literal["<=", ">="]


@dataclass(frozen=True, slots=True)
class Threshold:
    """A requirement on one figure: what was measured, and the `limit` to keep to, in `unit`."""

    what: str
    measured: float
    relation: Relation
    limit: float
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether the measured value keeps to the limit."""
        if self.relation == "<=":
            return self.measured <= self.limit
        return self.measured >= self.limit


@dataclass(slots=True)
class BenchContext:
    """One run of `make bench`. Servers start at first use, and end with the stack `servers`."""

    plan: Plan
    models: Path
    with_peers: bool
    console: Console
    servers: ExitStack
    thresholds: list[Threshold] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)
    _server: VecserveServer | None = None
    _peers: dict[Path, list[Peer]] = field(default_factory=dict)

    def server(self) -> VecserveServer:
        """Return our server, with every bundle of the repository."""
        if self._server is None:
            self._server = self.servers.enter_context(VecserveServer(self.models))
        return self._server

    def peers(self, graph: Path) -> list[Peer]:
        """Return the peers, serving `graph`; none without --peers."""
        if not self.with_peers:
            return []
        if graph not in self._peers:
            self._peers[graph] = [self.servers.enter_context(Peer(name, graph)) for name in PEERS]
        return self._peers[graph]

    def bundle(self, model: str) -> Path:
        """Return the folder of a model's latest version."""
        folders = (self.models / model).glob("*/manifest.json")
        return max(folders, key=lambda path: int(path.parent.name)).parent

    def oip(self, model: str) -> Target | None:
        """Return our server as an OIP target for a model's text graph, if it speaks OIP."""
        if not has_oip(self.server().address):
            self.note("the server has no OIP service: texts were sent over the typed API instead")
            return None
        return Target(VECSERVE, "oip", f"{self.server().address}/{model}.text")

    def typed(self, model: str, name: str = VECSERVE) -> Target:
        """Return our server as a typed target."""
        return Target(name, "typed", f"{self.server().address}/{model}")

    def in_process(self, model: str, *flags: str) -> Target:
        """Return ONNX Runtime in a process of its own as a target."""
        script = ROOT / "benchmarks" / "baselines" / "in_process.py"
        command = [sys.executable, str(script), str(self.bundle(model)), *flags]
        return Target(IN_PROCESS, "exec", shlex.join(command))

    def measure(
        self,
        title: str,
        pairs: Sequence[Sequence[tuple[Target, Load]]],
        *,
        pids: Mapping[str, int] | None = None,
        plan: Plan | None = None,
        reference: str | None = IN_PROCESS,
    ) -> list[Case]:
        """Measure; each of `pairs` holds the targets and loads that run at the same time."""
        plan = plan or self.plan
        cases = [
            Case(title, tuple(Part(target.name, load) for target, load in parts)) for parts in pairs
        ]
        targets = {target.name: target for parts in pairs for target, _ in parts}
        known = dict(pids or {})
        if self._server is not None:
            known.setdefault(VECSERVE, self._server.pid)
        known = {name: pid for name, pid in known.items() if name in targets}
        with (
            open_workers(targets.values(), 1) as workers,
            Live(console=self.console, transient=True) as live,
        ):

            def show(what: str) -> None:
                live.update(Group(table(cases, reference), Text(what, style="dim")))

            measure(cases, workers, known, plan, show)
        self.console.print(table(cases, reference))
        self.console.print()
        self.results += results(cases, plan, {})["results"]
        return cases

    def check(
        self, what: str, measured: float, relation: Relation, limit: float, unit: str = ""
    ) -> None:
        """Record a figure beside its threshold."""
        self.thresholds.append(Threshold(what, measured, relation, limit, unit))

    def note(self, text: str) -> None:
        """Record and print a remark, each text once."""
        if text not in self.notes:
            self.notes.append(text)
            self.console.print(f"[bold yellow]note:[/] {text}")


def precision_of(bundle: Path) -> str:
    """Return a bundle's precision."""
    return str(json.loads((bundle / "manifest.json").read_text())["precision"])


def part_of(cases: Sequence[Case], target: str, pressure: str) -> Part:
    """Return the one unary part of a target at a load level such as c8."""
    (found,) = (
        part
        for case in cases
        for part in case.parts
        if part.target == target and part.load.pressure == pressure and not part.load.stream
    )
    return found


def throughput(part: Part) -> float:
    """Return the mean over rounds, items a second."""
    return fmean(one.throughput for one in part.rounds)


def p50(part: Part) -> float:
    """Return the median of all rounds, ms."""
    return pooled_percentile(part.rounds, 50)


def p99(part: Part) -> float:
    """Return the 99th percentile of all rounds, ms."""
    return pooled_percentile(part.rounds, 99)
