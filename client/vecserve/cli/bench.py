"""Commands `vecserve bench run`, `sweep` and `plot`."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from vecserve._extras import require_extra
from vecserve.bench.environment import collect_environment
from vecserve.bench.load import Load
from vecserve.bench.measure import Case, Part, Plan, measure
from vecserve.bench.options import (
    check_pool,
    loads,
    parse_callers,
    parse_pids,
    parse_rates,
    parse_targets,
    read_trace,
    token_range,
)
from vecserve.bench.plots import draw
from vecserve.bench.report import results, table, write
from vecserve.bench.statistics import percentile
from vecserve.bench.sweep import Search, Step, sweep
from vecserve.bench.targets import BenchError, Target
from vecserve.bench.workers import open_workers
from vecserve.cli.terminal import say, stderr

bench = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Measure embedding servers side by side: latency, throughput, goodput.",
)

_PIPE_WIDTH = 250

Targets = Annotated[
    list[str],
    typer.Option(
        "--target",
        "-t",
        metavar="NAME=KIND:WHERE",
        help="typed:HOST:PORT/MODEL, oip:HOST:PORT/MODEL or exec:COMMAND. Repeat for several: "
        "rounds are interleaved over all targets. MODEL+MODEL alternates between both.",
    ),
]
Tokens = Annotated[
    str,
    typer.Option(metavar="N | LOW..HIGH", help="Tokens an item, special tokens included."),
]
Files = Annotated[
    list[Path] | None,
    typer.Option(
        "--file", exists=True, help="File to send to models that take it; repeat for several."
    ),
]
Items = Annotated[int, typer.Option(min=1, help="Items a request.")]
AsStream = Annotated[bool, typer.Option("--stream", help="Send on streams, not as unary calls.")]
InFlight = Annotated[
    int, typer.Option(min=1, help="Maximum of unanswered messages on each stream.")
]
Processes = Annotated[
    int, typer.Option(min=1, help="Client processes a target, for when one is the bottleneck.")
]
Seed = Annotated[int, typer.Option(help="Random seed of lengths, contents and arrivals.")]


@bench.command()
def run(
    targets: Targets,
    tokens: Tokens = "16",
    files: Files = None,
    concurrency: Annotated[
        str,
        typer.Option(metavar="N,...", help="Callers of a closed loop, or streams of an open loop."),
    ] = "1,8,32",
    rate: Annotated[
        str | None,
        typer.Option(metavar="R,...", help="Open loop: requests a second, Poisson arrivals."),
    ] = None,
    arrivals: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Open loop: a file of send times in seconds, one a line.",
        ),
    ] = None,
    items: Items = 1,
    stream: AsStream = False,
    in_flight: InFlight = 1,
    deadline_ms: Annotated[
        float | None,
        typer.Option(min=0.001, help="Deadline of a request, for goodput; requests carry it."),
    ] = None,
    tell_deadline: Annotated[
        bool, typer.Option(help="Whether requests carry the deadline.")
    ] = True,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of every target and load.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.05, help="Measured seconds a round.")] = 3.0,
    lead_s: Annotated[
        float, typer.Option(min=0, help="Unmeasured seconds before each round.")
    ] = 0.5,
    warmup_s: Annotated[
        float,
        typer.Option(
            min=0, help="Seconds of warm-up of each target and load, before the first round."
        ),
    ] = 2.0,
    processes: Processes = 1,
    pid: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=PID",
            help="Server process of a target, to measure its CPU time and memory.",
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Target that throughput ratios are relative to."),
    ] = None,
    seed: Seed = 1,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write all figures as JSON.")
    ] = None,
    plots: Annotated[
        Path | None, typer.Option(help="Write a PNG and an HTML page into this folder.")
    ] = None,
) -> None:
    """Measure every target under every load, in rounds interleaved over all of them.

    Latency counts from the intended send time. The interval is the 95 % confidence
    interval of the mean over rounds; ratios are taken within rounds.

    \b
    vecserve bench run -t ours=typed:127.0.0.1:8001/all-MiniLM-L6-v2
    vecserve bench run -t a=oip:127.0.0.1:9001/m -t b=oip:127.0.0.1:9002/m --tokens 3..209
    vecserve bench run -t ours=typed:127.0.0.1:8001/resnet-50 --file photo.jpg --rate 20,40
    """
    with _reporting():
        base = Load(
            tokens=token_range(tokens),
            files=tuple(map(str, files or ())),
            items=items,
            stream=stream,
            in_flight=in_flight,
            trace=read_trace(arrivals),
            deadline_ms=deadline_ms,
            tell_deadline=tell_deadline,
            seed=seed,
        )
        chosen_loads = loads(base, parse_callers(concurrency), parse_rates(rate))
        chosen = parse_targets(targets)
        _require_extras(chosen, plots)
        plan = Plan(rounds=rounds, seconds=seconds, lead_s=lead_s, warmup_s=warmup_s)
        cases = [Case("", (Part(target.name, load),)) for load in chosen_loads for target in chosen]
        pids = parse_pids(pid or [], chosen)
        environment = collect_environment()
        with (
            open_workers(chosen, processes) as workers,
            Live(console=stderr, transient=True) as live,
        ):

            def show(what: str) -> None:
                live.update(Group(table(cases, reference), Text(what, style="dim")))

            measure(cases, workers, pids, plan, show)
        _print(table(cases, reference))
        _keep(results(cases, plan, environment), output, plots)


@bench.command("sweep")
def sweep_rates(
    targets: Targets,
    p99_ms: Annotated[float, typer.Option(min=0.001, help="The p99 latency to hold, in ms.")],
    tokens: Tokens = "16",
    files: Files = None,
    start_rate: Annotated[
        float, typer.Option(min=0.1, help="Rate of the first step, requests a second.")
    ] = 50,
    streams: Annotated[int, typer.Option(min=1, help="Number of streams, with --stream.")] = 1,
    items: Items = 1,
    stream: AsStream = False,
    in_flight: InFlight = 64,
    seconds: Annotated[float, typer.Option(min=0.05, help="Measured seconds a step.")] = 5.0,
    lead_s: Annotated[
        float, typer.Option(min=0, help="Unmeasured seconds before each step.")
    ] = 0.5,
    tolerance: Annotated[
        float, typer.Option(min=0.01, help="Relative precision of the rate found.")
    ] = 0.05,
    processes: Processes = 1,
    seed: Seed = 1,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write all steps as JSON.")
    ] = None,
) -> None:
    """Find the highest rate of Poisson arrivals with p99 held, no error and no growing queue.

    \b
    vecserve bench sweep -t ours=typed:127.0.0.1:8001/all-MiniLM-L6-v2 --p99-ms 50
    """
    with _reporting():
        load = Load(
            tokens=token_range(tokens),
            files=tuple(map(str, files or ())),
            items=items,
            stream=stream,
            in_flight=in_flight,
            concurrency=streams,
            rate=start_rate,
            seed=seed,
        )
        check_pool(load)
        environment = collect_environment()
        chosen = parse_targets(targets)
        _require_extras(chosen, None)
        with (
            open_workers(chosen, processes) as workers,
            Live(console=stderr, transient=True) as live,
        ):

            def show(searches: Sequence[Search], step: Step | None) -> None:
                live.update(_sweep_table(searches, step))

            searches, steps = sweep(
                load,
                workers,
                p99_ms=p99_ms,
                seconds=seconds,
                lead_s=lead_s,
                tolerance=tolerance,
                show=show,
            )
        _print(_sweep_table(searches, None))
        if output:
            write(
                output,
                {
                    "format": 1,
                    "environment": environment,
                    "load": load.to_json(),
                    "p99_ms": p99_ms,
                    "highest_rate": {one.target: one.held for one in searches},
                    "steps": [
                        {
                            "target": step.target,
                            "rate": step.rate,
                            "held": step.held,
                            "throughput": step.figures.throughput,
                            "p99_ms": percentile(step.figures.latencies_ms, 99),
                            "errors": dict(step.figures.errors),
                        }
                        for step in steps
                    ],
                },
            )


@bench.command("plot")
def plot(
    measured: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False, help="JSON file written by `run --output`."),
    ],
    folder: Annotated[Path, typer.Argument(help="Folder for the PNG and the HTML page.")],
) -> None:
    """Plot latency against throughput from the JSON of `run`."""
    with _reporting():
        for path in draw(json.loads(measured.read_text()), folder):
            typer.echo(path)


@contextmanager
def _reporting() -> Iterator[None]:
    try:
        yield
    except BenchError as error:
        say("error", str(error), "bold red")
        raise typer.Exit(1) from None


def _require_extras(targets: Sequence[Target], plots: Path | None) -> None:
    """Raise MissingExtra before anything is measured in vain."""
    if any(target.kind == "oip" for target in targets):
        require_extra("tritonclient", "bench", "an oip target")
    if plots:
        require_extra("matplotlib", "bench", "a plot")


def _keep(measured: dict[str, object], output: Path | None, plots: Path | None) -> None:
    if output:
        write(output, measured)
    if plots:
        for path in draw(measured, plots):
            say("wrote", str(path), "bold")


def _print(built: Table) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    console.print(built)


def _sweep_table(searches: Sequence[Search], step: Step | None) -> Table:
    built = Table(box=None, pad_edge=False)
    for heading in ("target", "holds at", "fails at"):
        built.add_column(heading)
    for search in searches:
        built.add_row(search.target, _rate(search.held), _rate(search.broke))
    if step:
        outcome = "holds" if step.held else "does not hold"
        built.caption = (
            f"{step.target} at {step.rate:.1f}/s {outcome}: "
            f"p99 {percentile(step.figures.latencies_ms, 99):.1f} ms, "
            f"{step.figures.throughput:.1f}/s, {sum(step.figures.errors.values())} errors"
        )
    return built


def _rate(rate: float | None) -> str:
    return "none found" if rate is None else f"{rate:.1f}/s"
