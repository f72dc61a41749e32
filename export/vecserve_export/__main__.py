"""The `vecserve-export` command."""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from vecserve_export import bundle, catalog
from vecserve_export.errors import ExportError
from vecserve_export.request import (
    DEFAULT_OPSET,
    HUB,
    MAX_OPSET,
    MIN_OPSET,
    PACKAGES,
    UNTRAINED,
    Precision,
    Request,
)
from vecserve_server.repository.manifest import Manifest

_HELP = """Turn pretrained PyTorch models into verified ONNX bundles for vecserve-server.

MODEL is a name from `vecserve-export list`, a hub id (owner/name) of a ResNet,
BERT, CLIP or Whisper checkpoint, or a folder that holds one.

Weights come from the Hugging Face hub when it can be reached, else from known
Python packages, checked against their SHA-256. Each graph is compared with
PyTorch on real sentences, photos or speech; if they differ, nothing is written.
A bundle that is there already is left alone.

[bold]Examples[/bold]

  vecserve-export list

  vecserve-export all-MiniLM-L6-v2 whisper-base

  vecserve-export openai/clip-vit-large-patch14 --source hub --output /srv/models

  vecserve-export ./my-finetuned-bert

  vecserve-export resnet-50 --untrained

  vecserve-export all-MiniLM-L6-v2 --precision int8
"""

app = typer.Typer(
    add_completion=False, rich_markup_mode="rich", pretty_exceptions_show_locals=False
)
_out = Console(highlight=False, soft_wrap=True)
_err = Console(stderr=True, highlight=False, soft_wrap=True)


@app.command(help=_HELP)
def export(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="What to export, or `list`.")
    ],
    output: Annotated[
        Path, typer.Option(help="The model repository that the bundles are written to.")
    ] = Path("models"),
    source: Annotated[
        str | None,
        typer.Option(
            metavar=f"{HUB}|{PACKAGES}|{UNTRAINED}|PATH",
            help="The one place to take the weights from; PATH is a checkpoint's folder.",
            show_default="hub, then packages",
        ),
    ] = None,
    untrained: Annotated[
        bool,
        typer.Option(
            "--untrained",
            help="Where no real weights can be had, take seeded random ones: the bundle works "
            "but its vectors mean nothing, and it says so everywhere.",
        ),
    ] = False,
    precision: Annotated[
        Precision,
        typer.Option(
            help="fp16 and int8 are bundles of their own, NAME-fp16 and NAME-int8. int8: about "
            "twice as fast on a CPU, a quarter of the layers' memory, a mean cosine of at least "
            "0.995 to fp32, transformers only. fp16: for GPUs, half the memory, a cosine of at "
            "least 0.9995 (pooled); no faster than fp32 on a CPU."
        ),
    ] = "fp32",
    opset: Annotated[
        int, typer.Option(min=MIN_OPSET, max=MAX_OPSET, help="ONNX operator set.")
    ] = DEFAULT_OPSET,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a bundle that is there already.")
    ] = False,
    cache: Annotated[
        Path,
        typer.Option(envvar="VECSERVE_CACHE", help="Where weights out of packages are kept."),
    ] = Path(".cache/vecserve"),
) -> None:
    """Export each model; exit 1 if one of them failed."""
    if models == ["list"]:
        _list()
        return
    requests = [Request(model, source, untrained, cache, precision) for model in models]
    if len(requests) > 1 and requests[0].folder and source:
        raise typer.BadParameter("one folder is one model: name one", param_hint="--source")
    failures = [request for request in requests if not _export(request, output, opset, force)]
    if failures:
        raise typer.Exit(1)


def _export(request: Request, output: Path, opset: int, force: bool) -> bool:
    """Export one model and say how it went. False if it failed."""
    there = None if force else bundle.find(output, request.name)
    # Random weights are only what was asked for if they were allowed.
    if there and (there.trained or UNTRAINED in request.order):
        _out.print(f"{_line(there, output)}, there already (--force replaces it)")
        return True
    started = time.perf_counter()
    with _err.status(f"{escape(request.name)}: starting") as status:
        # Torch and transformers take seconds to load: only now.
        from vecserve_export.export import export

        try:
            manifest = export(
                request, output, opset, lambda step: status.update(f"{request.name}: {step}")
            )
        except ExportError as error:
            _err.print(f"[red]{escape(request.name)}: failed:[/red] {escape(str(error))}")
            return False
    seconds = time.perf_counter() - started
    parity = manifest.parity
    cosine = (
        f"mean cosine {parity.mean_cosine:.5f}"
        if manifest.precision == "int8"
        else f"min cosine {parity.min_cosine:.8f}"
    )
    _out.print(
        f"{_line(manifest, output)}, max abs error {parity.max_abs_error:.1e}, "
        f"{cosine}, {seconds:.1f} s"
    )
    return True


def _line(manifest: Manifest, output: Path) -> str:
    folder = bundle.bundle_folder(output, manifest.name)
    megabytes = bundle.size_bytes(output, manifest.name) / 1e6
    trained = "trained" if manifest.trained else "[bold yellow]UNTRAINED[/bold yellow]"
    origin = f"{manifest.source.kind} {manifest.source.location}"
    return f"{escape(str(folder))}: {megabytes:.0f} MB, {trained} ({escape(origin)})"


def _list() -> None:
    """Print the catalog, one model a line, to be read or grepped."""
    row = "{:<26}{:<13}{:<12}{:<12}{}"
    _out.print(row.format("name", "modality", "dimensions", "licence", "weights from"))
    for model in catalog.KNOWN_MODELS:
        places = [f"hub ({model.hub})"]
        if model.packages:
            places.append(f"packages ({', '.join(model.packages.requirements)})")
        _out.print(
            row.format(
                model.name, model.modality, model.dimensions, model.license, ", ".join(places)
            )
        )


def main() -> None:
    """Run the command."""
    app()


if __name__ == "__main__":
    main()
