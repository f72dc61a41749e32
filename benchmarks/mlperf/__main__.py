"""MLPerf LoadGen against vecserve, through the Python client.

\b
    python -m benchmarks.mlperf                    ResNet-50 and MiniLM, a few minutes
    python -m benchmarks.mlperf all-MiniLM-L6-v2 --seconds 60
    python -m benchmarks.mlperf resnet-50 --target-qps 12 --latency-bound-ms 300

For each model and scenario, first a run for accuracy: LoadGen issues every item
once and logs the vectors it got; they must be those of `client.embed`. Then a run
for performance; its figures, and VALID or INVALID, are LoadGen's.

\b
  SingleStream   one photo or text at a time, the next one when the last is answered
  Offline        all at once, on one stream
  Server         Poisson arrivals, a call each, none waiting for another

These are not MLPerf submissions: the items are not MLPerf's (five photos; generated
texts of 3 to 209 tokens), the runs are short, and accuracy is agreement with the same
server. Client, LoadGen and server share this machine's cores.

LoadGen calls a Server run valid once enough of its queries are in time: 459 if all
are, 662 if one is late, and so on. --server-queries is the least it issues.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.servers import ROOT, StartError, VecserveServer
from vecserve import Client, Image, VecserveError
from vecserve._extras import require_extra
from vecserve.bench.environment import collect_environment
from vecserve.bench.load import Load
from vecserve.bench.report import write
from vecserve.bench.workload import texts
from vecserve.cli.terminal import reporting_errors

RESNET, MINILM = "resnet-50", "all-MiniLM-L6-v2"
TOKENS = (3, 209)
CAVEAT = (
    "LoadGen's figures, but not an MLPerf submission (other data sets, run lengths and "
    "accuracy). Client, LoadGen and server share this machine's cores."
)
_PIPE_WIDTH = 160


def main(
    models: Annotated[
        list[str] | None, typer.Argument(help=f"{RESNET}, {MINILM}; default both.")
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0.1, help="Minimum duration of a run for performance; MLPerf: 600.")
    ] = 10,
    server_queries: Annotated[
        int, typer.Option(min=1, help="Minimum number of queries of Server, however long it takes.")
    ] = 700,
    target_share: Annotated[
        float, typer.Option(min=0.01, help="Server's target rate, as a share of Offline's result.")
    ] = 0.5,
    target_qps: Annotated[
        float | None,
        typer.Option(min=0.01, help="Server's target rate, queries a second; overrides the share."),
    ] = None,
    latency_bound_ms: Annotated[
        float, typer.Option(min=0.1, help="99 % of Server's queries must be answered within it.")
    ] = 250,
    distinct_texts: Annotated[int, typer.Option(min=2, help="Number of different texts.")] = 128,
    patience: Annotated[
        float, typer.Option(min=1, help="Seconds without any answer after which a run fails.")
    ] = 30,
    repository: Annotated[Path, typer.Option(help="The model repository.")] = ROOT / "models",
    logs: Annotated[Path, typer.Option(help="Folder for LoadGen's logs.")] = (
        ROOT / ".cache" / "mlperf"
    ),
    output: Annotated[
        Path, typer.Option(help="JSON file for the results; name it after the machine.")
    ] = ROOT / "benchmarks" / "results" / "mlperf-latest.json",
) -> None:
    """Run, print, and write. Exits 1 if a run failed, 2 for wrong usage or a missing extra."""
    with reporting_errors():
        for package in ("mlperf_loadgen", "anyio"):
            require_extra(package, "bench", "make mlperf")
    from benchmarks.mlperf.loadgen import RunError
    from benchmarks.mlperf.scenarios import Options, ScenarioRunner

    if unknown := sorted(set(models or ()) - {RESNET, MINILM}):
        raise typer.BadParameter(f"no items for {', '.join(unknown)}: {RESNET} or {MINILM}")
    options = Options(seconds, server_queries, target_share, target_qps, latency_bound_ms, patience)
    console = Console()
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    environment = collect_environment()
    found: list[dict[str, Any]] = []
    try:
        with VecserveServer(repository) as server, Client(server.address) as client:
            for model in models or (RESNET, MINILM):
                items = _photos() if model == RESNET else _texts(distinct_texts)
                trained = client.model(model).trained
                expected = np.stack([client.embed(model, [item])[0] for item in items])
                with console.status(model) as status:
                    runner = ScenarioRunner(
                        server.address, model, items, expected, options, logs, status.update
                    )
                    for result in runner.scenarios():
                        found.append({"trained": trained} | result)
                        console.print(_line(found[-1]))
    except (RunError, StartError, VecserveError) as error:
        console.print(f"[bold red]failed:[/] {error}")
        raise typer.Exit(1) from error
    console.print(_table(found))
    _print_reasons(found, console)
    output.parent.mkdir(parents=True, exist_ok=True)
    write(output, {"format": 1, "caveat": CAVEAT, "environment": environment, "results": found})
    console.print(f"wrote {output}; LoadGen's logs are in {logs}")


def _photos() -> Sequence[object]:
    photos = sorted((ROOT / "examples" / "data" / "photos").glob("*.jpg"))
    return [Image(path.read_bytes()) for path in photos]


def _texts(count: int) -> Sequence[object]:
    # More than `count`, as the shortest ones may come twice.
    return list(dict.fromkeys(texts(Load(tokens=TOKENS), 2 * count)))[:count]


def _line(result: dict[str, Any]) -> str:
    accuracy = result["accuracy"]
    return (
        f"{result['model']}, {result['scenario']}: for accuracy {accuracy['answers']} items, each "
        f"answered once, cosine to client.embed {accuracy['least_cosine']:.7f} or more; "
        f"for performance {result['answered']} samples"
    )


def _table(results: Sequence[dict[str, Any]]) -> Table:
    version = results[0]["loadgen"]["loadgen_version"]
    untrained = sorted({one["model"] for one in results if not one["trained"]})
    caption = f"LoadGen {version}. {CAVEAT}"
    if untrained:
        caption += f" UNTRAINED, random weights: {', '.join(untrained)}; its vectors mean nothing."
    built = Table(box=None, pad_edge=False, caption=caption, caption_justify="left")
    for heading in ("model", "scenario", "figure", "validity", "samples", "early stopping"):
        built.add_column(heading, justify="right" if heading == "samples" else "left")
    for one in results:
        built.add_row(
            one["model"] + ("" if one["trained"] else " UNTRAINED"),
            one["scenario"],
            _figure(one["scenario"], one["loadgen"]),
            one["validity"],
            str(one["answered"]),
            _early_stopping(one["loadgen"]),
        )
    return built


def _figure(scenario: str, loadgen: dict[str, Any]) -> str:
    def ms(key: str) -> str:
        return f"{loadgen[key] / 1e6:.1f} ms"

    if scenario == "SingleStream":
        qps = loadgen["result_qps_with_loadgen_overhead"]
        return f"p90 {ms('result_90.00_percentile_latency_ns')}, {qps:.1f} QPS"
    if scenario == "Offline":
        return f"{loadgen['result_samples_per_second']:.1f} samples/s"
    return (
        f"scheduled {loadgen['result_scheduled_samples_per_sec']:.1f}, "
        f"completed {loadgen['result_completed_samples_per_sec']:.1f} samples/s, "
        f"p99 {ms('result_99.00_percentile_latency_ns')} "
        f"of {ms('effective_target_latency_ns')} allowed"
    )


def _early_stopping(loadgen: dict[str, Any]) -> str:
    if estimate := loadgen.get("early_stopping_latency_ss"):
        return f"p90 estimate {estimate / 1e6:.1f} ms"
    # LoadGen's list; the rest is among the reasons.
    _, _, points = loadgen["early_stopping_result"].partition(" * ")
    return points.partition(" * ")[0].strip() or "-"


def _print_reasons(results: Sequence[dict[str, Any]], console: Console) -> None:
    for one in results:
        if one["validity"] != "VALID":
            console.print(f"\n{one['model']}, {one['scenario']}: {one['verdict']}", markup=False)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(help=__doc__)(main)
    try:
        app()
    except SystemExit as end:
        # Not sys.exit: after a failure, LoadGen's thread still runs.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(end.code or 0))
