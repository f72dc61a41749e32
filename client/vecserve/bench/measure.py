"""Measurement in rounds interleaved over all targets, so that machine noise affects all alike."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from vecserve.bench import processes
from vecserve.bench.load import Load, RoundSpec
from vecserve.bench.statistics import RoundFigures, figures
from vecserve.bench.workers import Workers


@dataclass(frozen=True, slots=True)
class Plan:
    """Durations: `rounds` of `seconds`, each after `lead_s` that do not count.

    Before the first, every target has `warmup_s` of each load.
    """

    rounds: int
    seconds: float
    lead_s: float
    warmup_s: float


@dataclass(slots=True)
class Part:
    """One target under one load, and the figures of its rounds."""

    target: str
    load: Load
    rounds: list[RoundFigures] = field(default_factory=list)
    untrained: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """Parts that run at the same time; most cases have one. `name` is a short title."""

    name: str
    parts: tuple[Part, ...]

    def title(self, part: Part) -> str:
        """Return the title of a part's row."""
        return self.name + part.load.form if self.name else part.load.what


def measure(
    cases: Sequence[Case],
    workers: Mapping[str, Workers],
    pids: Mapping[str, int],
    plan: Plan,
    show: Callable[[str], None],
) -> None:
    """Fill the cases' parts with their rounds; `show` is called with a label before each.

    `pids` are the server processes of targets, where known. Raises BenchError.
    """
    for case in cases if plan.warmup_s else ():
        show(f"warm-up: {_title(case)}")
        _run(case, workers, pids, plan, 0)
        for part in case.parts:
            part.rounds.clear()
    for number in range(1, plan.rounds + 1):
        # The order rotates: the first target would otherwise always find an idle machine.
        first = number % len(cases)
        for case in [*cases[first:], *cases[:first]]:
            show(f"round {number} of {plan.rounds}: {_title(case)}")
            _run(case, workers, pids, plan, number)


def _title(case: Case) -> str:
    parts = (f"{part.target} {part.load.what} {part.load.pressure}" for part in case.parts)
    return " beside ".join(parts)


def _run(
    case: Case, workers: Mapping[str, Workers], pids: Mapping[str, int], plan: Plan, number: int
) -> None:
    before = {part.target: _cpu_s(pids.get(part.target)) for part in case.parts}
    specs = []
    for part in case.parts:
        spec = RoundSpec(
            load=part.load,
            round=number,
            lead_s=plan.lead_s,
            seconds=plan.seconds if number else plan.warmup_s,
        )
        workers[part.target].start(spec)
        specs.append(spec)
    reports = [workers[part.target].result() for part in case.parts]
    for part, spec, report in zip(case.parts, specs, reports, strict=True):
        pid = pids.get(part.target)
        used = None
        if (after := _cpu_s(pid)) is not None and (began := before[part.target]) is not None:
            used = after - began
        part.untrained = report.untrained
        part.rounds.append(
            figures(
                report.samples,
                spec,
                client_cpu_s=report.client_cpu_s,
                server_cpu_s=used,
                server_pss_mb=None if pid is None else processes.pss_mb(pid),
                note=report.note,
            )
        )


def _cpu_s(pid: int | None) -> float | None:
    return None if pid is None else processes.cpu_s(pid)
