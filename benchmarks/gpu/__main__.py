"""Measures an NVIDIA card: one command, one JSON, one table.

\b
    python -m benchmarks.gpu                       everything
    python -m benchmarks.gpu resnet clip-b32       some
    python -m benchmarks.gpu --dry-run             every piece, tiny, on the CPU

Exports the models (in fp16; with random weights where there are no others: speed
does not depend on them), compares them on the card with PyTorch in fp32, and measures
(a) ONNX Runtime in process, inputs and outputs on the card, at its best batch;
(b) PyTorch in process, in fp16, compiled, at the same batch; (c) our server, streams of
batches; and what the card could do at the rates it was measured to have.
"""

import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console

from benchmarks.gpu import model, onnxruntime, report, roofline, server, torch_compiled
from benchmarks.gpu.model import Subject
from benchmarks.gpu.onnxruntime import MIN_COSINE
from benchmarks.gpu.profile import CARD, DRY_RUN, Size
from benchmarks.gpu.report import Measured
from benchmarks.gpu.roofline import Rates
from benchmarks.gpu.workloads import WORKLOADS, Workload
from benchmarks.servers import ROOT, StartError
from vecserve.bench.environment import stamp
from vecserve.bench.report import write
from vecserve.bench.targets import BenchError
from vecserve_export.verify import compare
from vecserve_server.engine import cuda
from vecserve_server.engine.provider import is_built_in

_PIPE_WIDTH = 200


def main(
    workloads: Annotated[
        list[str] | None, typer.Argument(help=f"Default all: {', '.join(WORKLOADS)}.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Try every piece on the CPU, in fp32.")
    ] = False,
    models: Annotated[
        Path, typer.Option(help="The model repository; what it lacks is exported to it.")
    ] = ROOT / ".cache" / "bench-gpu",
    output: Annotated[
        Path, typer.Option(help="Where the results go, .json and .md; name the card.")
    ] = ROOT / "benchmarks" / "results" / "gpu-latest.json",
) -> None:
    """Measure, print, and write."""
    chosen = workloads or list(WORKLOADS)
    if unknown := sorted(set(chosen) - WORKLOADS.keys()):
        raise typer.BadParameter(f"no workload {', '.join(unknown)}")
    if not dry_run and (problem := _missing()):
        typer.echo(f"no card to measure: {problem}; or try every piece with --dry-run", err=True)
        raise typer.Exit(1)
    size = DRY_RUN if dry_run else CARD
    console = Console()
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    try:
        found, rates = _measure([WORKLOADS[name] for name in chosen], models, size, console)
    except (BenchError, StartError, subprocess.CalledProcessError) as error:
        typer.echo(f"failed: {error}", err=True)
        raise typer.Exit(1) from error
    caveat = report.DRY_RUN if dry_run else ""
    environment = stamp() | _device(size)
    measured = {
        "format": 1,
        "caveat": caveat,
        "environment": environment,
        "rates": asdict(rates),
        "results": [one.as_json() for one in found],
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    write(output, measured)
    page = report.page(found, caveat, environment)
    output.with_suffix(".md").write_text(page)
    typer.echo(page)
    console.print(f"wrote {output} and {output.with_suffix('.md')}")


def _missing() -> str:
    """Say what a card's measurement needs and is not here; "" if nothing."""
    if not is_built_in("cuda"):
        return "this ONNX Runtime is built without CUDA (benchmarks/gpu/install.sh)"
    if problem := cuda.missing():
        return problem
    return "" if torch.cuda.is_available() else "this PyTorch has no CUDA"


def _device(size: Size) -> dict[str, str]:
    if size.device == "cpu":
        return {"device": "cpu"}
    return {"device": torch.cuda.get_device_name(), "cuda": str(torch.version.cuda)}


def _measure(
    workloads: list[Workload], models: Path, size: Size, console: Console
) -> tuple[list[Measured], Rates]:
    """Measure all in process, then, with the device to itself, the server."""

    def show(what: str) -> None:
        console.print(f"[dim]{what}[/]")

    model.export({one.model for one in workloads}, models, size.precision)
    at_best = roofline.rates(size)
    found = []
    for workload in workloads:
        show(f"{workload.name}: in process")
        found.append(_in_process(model.load(workload, models, size.precision), size, at_best))
    with server.serve(models, size) as serving:
        for one in found:
            workload, bundle = one.subject.workload, one.subject.manifest.name
            show(f"{workload.name}: served")
            one.served += server.each(serving, workload, bundle, size, show)
    return found, at_best


def _in_process(own: Subject, size: Size, at_best: Rates) -> Measured:
    runtime = onnxruntime.Runtime(own, size)
    cosine = runtime.worst_cosine(own)
    best = onnxruntime.measure(runtime, own, size)
    module = torch_compiled.module_for(own, size)
    alike = compare(
        torch_compiled.runner(module, own, best.rows, size)(),
        runtime.run(runtime.bind(own.feeds(best.rows))),
    ).min_cosine
    # Not min(): it would drop a NaN.
    if not np.minimum(cosine, alike) >= MIN_COSINE:
        raise BenchError(
            f"{own.workload.name}: cosine {cosine:.6f} to PyTorch in fp32, and {alike:.6f} of "
            f"PyTorch in {size.dtype} to it; {MIN_COSINE} is asked for: export it again"
        )
    return Measured(
        own,
        cosine,
        alike,
        best,
        torch_compiled.measure(module, own, best.rows, size),
        roofline.limit(own, best.rows, size, at_best),
    )


if __name__ == "__main__":
    typer.run(main)
