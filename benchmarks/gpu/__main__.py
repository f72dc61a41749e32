"""The command of `make bench-gpu`: an NVIDIA card measured into one JSON and one table.

\b
    python -m benchmarks.gpu                       everything
    python -m benchmarks.gpu resnet clip-b32       some
    python -m benchmarks.gpu --dry-run             every piece, tiny, on the CPU

Exports the models (in fp16; with random weights where there are no others: speed
does not depend on them), compares them on the card with PyTorch in fp32, and measures
(a) ONNX Runtime in process, inputs and outputs on the card, at its best batch;
(b) PyTorch in process, in fp16, compiled, at the same batch; (c) vecserve, streams of
batches; and the roofline: the bound at the peak rates measured on the card.
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
from benchmarks.gpu.model import ModelUnderTest
from benchmarks.gpu.onnxruntime import MIN_COSINE
from benchmarks.gpu.profile import CARD, DRY_RUN, Profile
from benchmarks.gpu.report import WorkloadResult
from benchmarks.gpu.roofline import PeakRates
from benchmarks.gpu.workloads import WORKLOADS, Workload
from benchmarks.servers import ROOT, StartError
from vecserve.bench.environment import collect_environment
from vecserve.bench.report import write
from vecserve.bench.targets import BenchError
from vecserve_export.verify import compare
from vecserve_server.engine.providers import cuda
from vecserve_server.engine.providers.base import is_built_in

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
        Path,
        typer.Option(
            help="JSON file for the results, and .md for the table; name it after the card."
        ),
    ] = ROOT / "benchmarks" / "results" / "gpu-latest.json",
) -> None:
    """Measure ONNX Runtime, PyTorch and vecserve on an NVIDIA card."""
    chosen = workloads or list(WORKLOADS)
    if unknown := sorted(set(chosen) - WORKLOADS.keys()):
        raise typer.BadParameter(f"no workload {', '.join(unknown)}")
    if not dry_run and (problem := _missing()):
        typer.echo(f"no card to measure: {problem}; or try every piece with --dry-run", err=True)
        raise typer.Exit(1)
    profile = DRY_RUN if dry_run else CARD
    console = Console()
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    try:
        found, rates = _measure([WORKLOADS[name] for name in chosen], models, profile, console)
    except (BenchError, StartError, subprocess.CalledProcessError) as error:
        typer.echo(f"failed: {error}", err=True)
        raise typer.Exit(1) from error
    caveat = report.DRY_RUN if dry_run else ""
    environment = collect_environment() | _device(profile)
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
    """Return what a measurement on a card lacks here, as a message; "" if nothing."""
    if not is_built_in("cuda"):
        return "this ONNX Runtime is built without CUDA (benchmarks/gpu/install.sh)"
    if problem := cuda.missing():
        return problem
    return "" if torch.cuda.is_available() else "this PyTorch has no CUDA"


def _device(profile: Profile) -> dict[str, str]:
    if profile.device == "cpu":
        return {"device": "cpu"}
    return {"device": torch.cuda.get_device_name(), "cuda": str(torch.version.cuda)}


def _measure(
    workloads: list[Workload], models: Path, profile: Profile, console: Console
) -> tuple[list[WorkloadResult], PeakRates]:
    """Measure all in process, then the server, alone on the device."""

    def show(what: str) -> None:
        console.print(f"[dim]{what}[/]")

    model.export({one.model for one in workloads}, models, profile.precision)
    peak = roofline.peak_rates(profile)
    found = []
    for workload in workloads:
        show(f"{workload.name}: in process")
        found.append(_in_process(model.load(workload, models, profile.precision), profile, peak))
    with server.start(models, profile) as running:
        for one in found:
            workload, bundle = one.model.workload, one.model.manifest.name
            show(f"{workload.name}: server")
            one.server += server.measure_all(running, workload, bundle, profile, show)
    return found, peak


def _in_process(tested: ModelUnderTest, profile: Profile, peak: PeakRates) -> WorkloadResult:
    runtime = onnxruntime.Runtime(tested, profile)
    cosine = runtime.worst_cosine(tested)
    best = onnxruntime.measure(runtime, tested, profile)
    module = torch_compiled.module_for(tested, profile)
    torch_cosine = compare(
        torch_compiled.runner(module, tested, best.rows, profile)(),
        runtime.run(runtime.bind(tested.feeds(best.rows))),
    ).min_cosine
    # Not min(): it would drop a NaN.
    if not np.minimum(cosine, torch_cosine) >= MIN_COSINE:
        raise BenchError(
            f"{tested.workload.name}: cosine {cosine:.6f} to PyTorch in fp32, and "
            f"{torch_cosine:.6f} of PyTorch in {profile.dtype} to it; "
            f"{MIN_COSINE} is required: export it again"
        )
    return WorkloadResult(
        tested,
        cosine,
        torch_cosine,
        best,
        torch_compiled.measure(module, tested, best.rows, profile),
        roofline.roofline(tested, best.rows, profile, peak),
    )


if __name__ == "__main__":
    typer.run(main)
