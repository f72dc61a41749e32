"""The command of `make bench`: vecserve beside in-process ONNX Runtime and peer servers.

    python -m benchmarks.run                    everything, about 10 minutes
    python -m benchmarks.run short mixed --peers
    python -m benchmarks.run --list

Prints which thresholds are met. Writes benchmarks/results/NAME.json, and into NAME/ a
plot and an HTML page; the page is not committed.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.context import BenchContext, Threshold
from benchmarks.scenarios import contention, footprint, scheduler, streams, tensors
from benchmarks.servers import ROOT, StartError
from vecserve.bench.environment import collect_environment
from vecserve.bench.measure import Plan
from vecserve.bench.plots import draw
from vecserve.bench.report import write
from vecserve.bench.targets import BenchError

_PIPE_WIDTH = 200

SCENARIOS: dict[str, Callable[[BenchContext], None]] = {
    "scheduler": scheduler.overhead,
    "memory": footprint.memory,
    "start": footprint.start,
    "short": tensors.short,
    "mixed": tensors.mixed,
    "precisions": tensors.other_precisions,
    "recommended": tensors.recommended,
    "text": streams.text,
    "images": streams.images,
    "audio": streams.audio,
    "interference": contention.interference,
    "overload": contention.overload,
}


def main(
    scenarios: Annotated[
        list[str] | None, typer.Argument(help="Scenarios to run; default all. --list names them.")
    ] = None,
    list_them: Annotated[bool, typer.Option("--list", help="List the scenarios and exit.")] = False,
    peers: Annotated[
        bool, typer.Option("--peers", help="Also measure MLServer, Triton's core and kserve.")
    ] = False,
    models: Annotated[Path, typer.Option(help="The model repository.")] = ROOT / "models",
    rounds: Annotated[int, typer.Option(min=1, help="Rounds, interleaved over targets.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.1, help="Seconds measured a round.")] = 1.5,
    lead_s: Annotated[
        float, typer.Option(min=0, help="Unmeasured seconds before each round.")
    ] = 0.5,
    output: Annotated[
        Path, typer.Option(help="JSON file for the results; name it after the machine.")
    ] = ROOT / "benchmarks" / "results" / "latest.json",
) -> None:
    """Measure vecserve beside in-process ONNX Runtime and, with --peers, other servers."""
    if list_them:
        for name, scenario in SCENARIOS.items():
            typer.echo(f"{name:13} {(scenario.__doc__ or '').splitlines()[0]}")
        return
    if unknown := sorted(set(scenarios or ()) - SCENARIOS.keys()):
        raise typer.BadParameter(f"no scenario {', '.join(unknown)}: see --list")
    plan = Plan(rounds=rounds, seconds=seconds, lead_s=lead_s, warmup_s=min(seconds, 1.0))
    console = Console()
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    environment = collect_environment()
    with ExitStack() as servers:
        context = BenchContext(plan, models, peers, console, servers)
        for name in scenarios or SCENARIOS:
            console.rule(name)
            began = time.perf_counter()
            try:
                SCENARIOS[name](context)
            except (BenchError, StartError) as error:
                context.note(f"{name} failed: {error}")
            console.print(f"[dim]{name} took {time.perf_counter() - began:.0f} s[/]")
    console.rule("thresholds")
    console.print(_threshold_table(context.thresholds))
    for note in context.notes:
        console.print(f"- {note}")
    measured: dict[str, Any] = {
        "format": 1,
        "environment": environment,
        "notes": context.notes,
        "thresholds": [
            {
                "what": one.what,
                "measured": one.measured,
                "threshold": f"{one.relation} {one.limit:.4g} {one.unit}".strip(),
                "met": one.met,
            }
            for one in context.thresholds
        ],
        "results": context.results,
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    write(output, measured)
    if context.results:
        draw(measured, output.with_suffix(""), _comparisons(context.results))
    console.print(f"wrote {output}")


def _comparisons(results: Sequence[dict[str, Any]]) -> set[str] | None:
    """Return the titles with several targets at several load levels; None (all) without any."""
    targets, levels = defaultdict(set), defaultdict(set)
    for one in results:
        targets[one["title"]].add(one["target"])
        levels[one["title"]].add(one["pressure"])
    return {title for title in targets if len(targets[title]) > 1 < len(levels[title])} or None


def _threshold_table(thresholds: Sequence[Threshold]) -> Table:
    built = Table(box=None, pad_edge=False)
    built.add_column("what")
    for heading in ("measured", "threshold", ""):
        built.add_column(heading, justify="right")
    for one in thresholds:
        outcome = "[green]met[/]" if one.met else "[bold red]missed[/]"
        limit = f"{one.relation} {one.limit:.3g} {one.unit}".strip()
        built.add_row(one.what, f"{one.measured:.3g} {one.unit}".strip(), limit, outcome)
    return built


if __name__ == "__main__":
    typer.run(main)
