"""Measures the server beside its limit and its peers, and says which bars it meets.

    python -m benchmarks.run                    everything, about 10 minutes
    python -m benchmarks.run short mixed --peers
    python -m benchmarks.run --list

Writes benchmarks/results/NAME.json, and NAME/ with a plot and a page.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.context import Bar, House
from benchmarks.scenarios import contention, footprint, scheduler, streams, tensors
from benchmarks.servers import ROOT, StartError
from vecserve.bench.environment import stamp
from vecserve.bench.measure import Plan
from vecserve.bench.plots import draw
from vecserve.bench.report import write
from vecserve.bench.targets import BenchError

_PIPE_WIDTH = 200

SCENARIOS: dict[str, Callable[[House], None]] = {
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
        list[str] | None, typer.Argument(help="Which; default all. --list names them.")
    ] = None,
    list_them: Annotated[bool, typer.Option("--list", help="Name the scenarios, and end.")] = False,
    peers: Annotated[
        bool, typer.Option("--peers", help="Also MLServer, Triton's core and kserve.")
    ] = False,
    models: Annotated[Path, typer.Option(help="The model repository.")] = ROOT / "models",
    rounds: Annotated[int, typer.Option(min=1, help="Of everything, interleaved.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.1, help="Measured a round.")] = 1.5,
    lead_s: Annotated[float, typer.Option(min=0, help="Not measured, before each round.")] = 0.5,
    output: Annotated[
        Path, typer.Option(help="Where the results go, .json; name the machine.")
    ] = ROOT / "benchmarks" / "results" / "latest.json",
) -> None:
    """Measure, print, and write."""
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
    environment = stamp()
    with ExitStack() as servers:
        house = House(plan, models, peers, console, servers)
        for name in scenarios or SCENARIOS:
            console.rule(name)
            began = time.perf_counter()
            try:
                SCENARIOS[name](house)
            except (BenchError, StartError) as error:
                house.note(f"{name} failed: {error}")
            console.print(f"[dim]{name} took {time.perf_counter() - began:.0f} s[/]")
    console.rule("bars")
    console.print(_bars_table(house.bars))
    for note in house.notes:
        console.print(f"- {note}")
    measured: dict[str, Any] = {
        "format": 1,
        "environment": environment,
        "notes": house.notes,
        "bars": [
            {
                "what": bar.what,
                "measured": bar.measured,
                "bar": f"{bar.relation} {bar.bar:.4g} {bar.unit}".strip(),
                "met": bar.met,
            }
            for bar in house.bars
        ],
        "results": house.found,
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    write(output, measured)
    if house.found:
        draw(measured, output.with_suffix(""))
    console.print(f"wrote {output}")


def _bars_table(bars: Sequence[Bar]) -> Table:
    built = Table(box=None, pad_edge=False)
    built.add_column("what")
    for heading in ("measured", "bar", ""):
        built.add_column(heading, justify="right")
    for bar in bars:
        verdict = "[green]met[/]" if bar.met else "[bold red]missed[/]"
        asked = f"{bar.relation} {bar.bar:.3g} {bar.unit}".strip()
        built.add_row(bar.what, f"{bar.measured:.3g} {bar.unit}".strip(), asked, verdict)
    return built


if __name__ == "__main__":
    typer.run(main)
