"""Results as a table and as JSON."""

import json
from collections.abc import Callable, Sequence
from math import inf, isnan
from pathlib import Path
from typing import Any

from rich.table import Table

from vecserve.bench.measure import Case, Part, Plan
from vecserve.bench.statistics import (
    PERCENTILES,
    Estimate,
    RoundFigures,
    percentile,
    pooled_percentile,
    ratio,
)

FORMAT = 1


def results(cases: Sequence[Case], plan: Plan, environment: dict[str, Any]) -> dict[str, Any]:
    """Return all figures as JSON values."""
    return {
        "format": FORMAT,
        "environment": environment,
        "plan": {
            "rounds": plan.rounds,
            "seconds": plan.seconds,
            "lead_s": plan.lead_s,
            "warmup_s": plan.warmup_s,
        },
        "results": [_part_json(case, part) for case in cases for part in case.parts],
    }


def write(path: Path, measured: dict[str, Any]) -> None:
    """Write results as JSON."""
    # NaN and infinity are no JSON.
    text = json.dumps(_finite(measured), indent=1, allow_nan=False)
    path.write_text(text + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(own) for key, own in value.items()}
    if isinstance(value, list):
        return [_finite(own) for own in value]
    if isinstance(value, float):
        return None if isnan(value) or abs(value) == inf else round(value, 6)
    return value


def _part_json(case: Case, part: Part) -> dict[str, Any]:
    rounds = part.rounds
    return {
        "title": case.title(part),
        "target": part.target,
        "untrained": list(part.untrained),
        "load": {**part.load.to_json(), "trace": len(part.load.trace)},
        "pressure": part.load.pressure,
        "throughput": _estimate_json([one.throughput for one in rounds]),
        "goodput": _estimate_json([one.goodput for one in rounds]),
        "goodput_rate": _estimate_json([one.goodput_rate for one in rounds]),
        "latency_ms": {
            f"p{percent:g}": pooled_percentile(rounds, percent) for percent in PERCENTILES
        },
        "requests": sum(one.requests for one in rounds),
        "errors": dict(sum((one.errors for one in rounds), start=type(rounds[0].errors)())),
        "rounds": [_round_json(one) for one in rounds],
    }


def _estimate_json(values: Sequence[float]) -> dict[str, float]:
    estimate = Estimate.of(values)
    return {"mean": estimate.mean, "margin95": estimate.margin}


def _round_json(one: RoundFigures) -> dict[str, Any]:
    return {
        "throughput": one.throughput,
        "goodput": one.goodput,
        "latency_ms": {
            f"p{percent:g}": percentile(one.latencies_ms, percent) for percent in PERCENTILES
        },
        "requests": one.requests,
        "answered": one.answered,
        "errors": dict(one.errors),
        "late_ms": one.late_ms,
        "client_cpu_s": one.client_cpu_s,
        "server_cpu_s": one.server_cpu_s,
        "server_pss_mb": one.server_pss_mb,
        "note": one.note,
    }


def table(cases: Sequence[Case], reference: str | None) -> Table:
    """Return a table of the rounds so far; with `reference`, also ratios to that target."""
    parts = [(case, part) for case in cases for part in case.parts if part.rounds]
    extras = _extras([part for _, part in parts])
    built = Table(box=None, pad_edge=False)
    built.add_column("load")
    built.add_column("target", no_wrap=True)
    headings = ["items/s", "±95%", "p50 ms", "p99 ms", "errors", "client CPU/item"]
    headings += [name for name, _ in extras]
    if reference:
        headings.append(f"x {reference}")
    for heading in headings:
        built.add_column(heading, justify="right")
    before = ""
    for case, part in parts:
        rate = Estimate.of([one.throughput for one in part.rounds])
        title = f"{case.title(part)}, {part.load.pressure}"
        cells = [
            "" if title == before else title,
            part.target + (" UNTRAINED" if part.untrained else ""),
            f"{rate.mean:.1f}",
            "" if rate.margin == inf else f"{rate.margin:.1f}",
            f"{pooled_percentile(part.rounds, 50):.2f}",
            f"{pooled_percentile(part.rounds, 99):.2f}",
            _errors(part),
            _cpu_per_item([one.client_cpu_s for one in part.rounds], part),
            *(cell(part) for _, cell in extras),
        ]
        before = title
        if reference:
            cells.append(_ratio_cell(case, part, parts, reference))
        built.add_row(*cells)
    return built


def _extras(parts: Sequence[Part]) -> list[tuple[str, Callable[[Part], str]]]:
    """Return the columns that only some measurements have."""
    found: list[tuple[str, Callable[[Part], str]]] = []
    if any(part.load.deadline_ms is not None for part in parts):
        found.append(("in time", lambda part: _percent([one.goodput for one in part.rounds])))
    if any(one.server_cpu_s is not None for part in parts for one in part.rounds):
        found.append(
            (
                "server CPU/item",
                lambda part: _cpu_per_item([one.server_cpu_s for one in part.rounds], part),
            )
        )
        found.append(("PSS MB", lambda part: _last([one.server_pss_mb for one in part.rounds])))
    if any(part.load.open for part in parts):
        found.append(("sent late ms", lambda part: _last([one.late_ms for one in part.rounds])))
    if any(one.note for part in parts for one in part.rounds):
        found.append(("how", lambda part: part.rounds[-1].note))
    return found


def _errors(part: Part) -> str:
    total = sum((one.errors for one in part.rounds), start=type(part.rounds[0].errors)())
    return ", ".join(f"{code} {count}" for code, count in total.most_common()) or "0"


def _cpu_per_item(seconds: Sequence[float | None], part: Part) -> str:
    items = sum(one.answered for one in part.rounds)
    known = [own for own in seconds if own is not None]
    return f"{sum(known) / items * 1000:.2f} ms" if known and items else ""


def _percent(values: Sequence[float]) -> str:
    return f"{100 * Estimate.of(values).mean:.1f} %"


def _last(values: Sequence[float | None]) -> str:
    known = [own for own in values if own is not None]
    return f"{known[-1]:.2f}" if known else ""


def ratios(part: Part, other: Part) -> dict[str, Estimate]:
    """Return a part's throughput, p50 and p99 over another's, estimated round by round."""
    return {
        "throughput": ratio(
            [one.throughput for one in part.rounds], [one.throughput for one in other.rounds]
        ),
        **{
            f"p{percent:g}": ratio(
                [percentile(one.latencies_ms, percent) for one in part.rounds],
                [percentile(one.latencies_ms, percent) for one in other.rounds],
            )
            for percent in (50.0, 99.0)
        },
    }


def _ratio_cell(case: Case, part: Part, parts: Sequence[tuple[Case, Part]], reference: str) -> str:
    for other_case, other in parts:
        same = (other_case.name, other.load) == (case.name, part.load)
        if same and other.target == reference and len(other.rounds) == len(part.rounds):
            estimate = ratios(part, other)["throughput"]
            margin = "" if estimate.margin == inf else f" ±{estimate.margin:.2f}"
            return f"{estimate.mean:.2f}{margin}"
    return ""
