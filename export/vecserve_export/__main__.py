"""The `vecserve-export` command."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from vecserve_export import catalog
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

if TYPE_CHECKING:
    from vecserve_server.repository.manifest import Manifest

# The base install can show the help and the catalog. What needs the extra `export`
# (pydantic, PyTorch, ONNX Runtime ...) is imported where it is used.

_DEFAULT_COMMAND = "export"


class _DefaultCommandGroup(TyperGroup):
    """A command group that runs `export` if the first argument is no command's name."""

    # `ctx` has no public type that typer 0.16 and later share.
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the default command's name before arguments that are meant for it."""
        own = {*self.commands, *(name for param in self.get_params(ctx) for name in param.opts)}
        if args and args[0] not in own:
            args = [_DEFAULT_COMMAND, *args]
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Show the default command's arguments and options beside the commands."""
        self.params = [*self.commands[_DEFAULT_COMMAND].params, *self.params]
        super().format_help(ctx, formatter)


app = typer.Typer(
    cls=_DefaultCommandGroup,
    subcommand_metavar="| list",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
)
_out = Console(highlight=False, soft_wrap=True)
_err = Console(stderr=True, highlight=False, soft_wrap=True)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"vecserve-export {version('vecserve')}")
        raise typer.Exit


@app.callback()
def vecserve_export(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Convert pretrained PyTorch models to verified ONNX bundles for vecserve-server.

    MODEL is a name printed by `vecserve-export list`, a hub id (owner/name)
    of an image encoder's (ResNet, ViT, DINOv2, ConvNeXt, Swin, SigLIP), CLIP,
    Whisper, Perceiver or text encoder checkpoint, or a folder that holds one
    (a folder named like a command is ./list or ./export).

    Text encoders are BERT, MPNet, RoBERTa, XLM-RoBERTa, DistilBERT and
    ModernBERT as sentence-transformers saves them: pooling, dense layers,
    normalisation, lengths, lower-casing and prompts are the folder's own.
    What is not supported is refused by its name.

    Weights are downloaded from the Hugging Face hub or, if that cannot be
    reached, from known Python packages, checked against their SHA-256. Each
    graph is compared with PyTorch on real sentences, photos or speech; if
    they differ, nothing is written. An existing bundle is kept. A graph that
    was published as such (sscd-resnet50) is served byte for byte, compared
    with itself, and its licence is printed.

    [bold]Examples[/bold]

    vecserve-export list
    vecserve-export all-MiniLM-L6-v2 whisper-base
    vecserve-export openai/clip-vit-large-patch14 --output /srv/models
    vecserve-export all-mpnet-base-v2 intfloat/e5-base-v2
    vecserve-export ./my-sentence-transformer
    vecserve-export resnet-50 --untrained
    vecserve-export resnet-50 --source resnet50-0676ba61.pth
    vecserve-export all-MiniLM-L6-v2 --precision int8
    """


@app.command(_DEFAULT_COMMAND)
def export(
    models: Annotated[list[str], typer.Argument(metavar="MODEL", help="The models to export.")],
    output: Annotated[
        Path, typer.Option(help="The model repository that the bundles are written to.")
    ] = Path("models"),
    source: Annotated[
        str | None,
        typer.Option(
            metavar=f"{HUB}|{PACKAGES}|{UNTRAINED}|PATH",
            help="Take the weights from here and nowhere else; PATH is a checkpoint's folder, or "
            "a file of torchvision's ResNet or SSCD weights.",
            show_default="hub, then packages",
        ),
    ] = None,
    untrained: Annotated[
        bool,
        typer.Option(
            "--untrained",
            help="If no source has the weights, generate random ones from a fixed seed. The "
            "bundle can be served, but its vectors are meaningless; it is marked UNTRAINED "
            "wherever it is shown.",
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
    matryoshka: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            metavar="N",
            help="How many of a vector's first numbers may be kept, where the model was trained "
            "for it (Matryoshka); repeat it for several. Requests then may ask for so many.",
            show_default="what `list` knows of the model",
        ),
    ] = None,
    opset: Annotated[
        int, typer.Option(min=MIN_OPSET, max=MAX_OPSET, help="ONNX operator set.")
    ] = DEFAULT_OPSET,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing bundle.")] = False,
    cache: Annotated[
        Path,
        typer.Option(
            envvar="VECSERVE_CACHE", help="The folder for weights downloaded from packages."
        ),
    ] = Path(".cache/vecserve"),
) -> None:
    """Export models; the default command, whose name can be left out.

    Exits 1 if a model failed, 2 for wrong usage or if the extra `export` is not installed.
    """
    requests = [
        Request(model, source, untrained, cache, precision, tuple(matryoshka or ()))
        for model in models
    ]
    if len(requests) > 1 and requests[0].folder and source:
        raise typer.BadParameter("one folder is one model: name one", param_hint="--source")
    failures = [request for request in requests if not _export(request, output, opset, force)]
    if failures:
        raise typer.Exit(1)


@app.command("list")
def list_models() -> None:
    """Print the models known by name, one a line.

    The columns are name, modality, dimensions, licence, the names of the prompts
    that go before a text, what was exported to test it (its own weights or, where
    these are on the hub only, its architecture with random ones), and where its
    weights come from. Whatever was tested, every export compares its graph with
    PyTorch.
    """
    header = ("name", "modality", "dimensions", "licence", "prompts", "tested", "weights from")
    rows = [header]
    for model in catalog.KNOWN_MODELS:
        places = [f"hub ({model.hub})"] if model.hub else []
        if model.packages:
            terms = [*model.packages.requirements]
            if model.packages.license:
                terms.append(f"licence {model.packages.license}")
            places.append(f"packages ({', '.join(terms)})")
        rows.append(
            (
                model.name,
                model.modality,
                str(model.dimensions),
                model.license,
                ", ".join(model.prompts) or "-",
                "weights" if model.packages else "architecture",
                ", ".join(places),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        _out.print("  ".join(cells).rstrip())


def _export(request: Request, output: Path, opset: int, force: bool) -> bool:
    """Export one model and print the outcome. False if it failed."""
    with _needing_extra():
        from vecserve_export import bundle
    existing = None if force else bundle.find(output, request.name)
    # An untrained bundle will do only where random weights are allowed.
    if existing and (existing.trained or UNTRAINED in request.order):
        _out.print(f"{_line(existing, output)}, there already (--force replaces it)")
        return True
    started = time.perf_counter()
    with _err.status(f"{escape(request.name)}: starting") as status:
        # PyTorch and transformers take seconds to import: only now.
        with _needing_extra():
            from vecserve_export.export import export

        try:
            manifest = export(
                request,
                output,
                opset,
                lambda step: status.update(escape(f"{request.name}: {step}")),
            )
        except ExportError as error:
            _err.print(f"[red]{escape(request.name)}: failed:[/red] {escape(str(error))}")
            return False
    seconds = time.perf_counter() - started
    _out.print(f"{_line(manifest, output)}, {_measured(manifest)}, {seconds:.1f} s")
    for name in manifest.license_files:
        _out.rule(f"{manifest.name}: {name}")
        text = (bundle.bundle_folder(output, manifest.name) / name).read_text("utf-8")
        _out.print(text.rstrip(), markup=False)
        _out.rule()
    return True


def _measured(manifest: "Manifest") -> str:
    """Say how far the graph is from its reference."""
    parity = manifest.parity
    if parity.reference == "itself":
        return (
            "served as it was published, not compared with PyTorch; rows alone, together and "
            f"again differ by {parity.max_abs_error:.1e}"
        )
    cosine = (
        f"mean cosine {parity.mean_cosine:.5f}"
        if manifest.precision == "int8"
        else f"min cosine {parity.min_cosine:.8f}"
    )
    return f"max abs error {parity.max_abs_error:.1e}, {cosine}"


def _line(manifest: "Manifest", output: Path) -> str:
    from vecserve_export import bundle

    folder = bundle.bundle_folder(output, manifest.name)
    megabytes = bundle.size_bytes(output, manifest.name) / 1e6
    trained = "trained" if manifest.trained else "[bold yellow]UNTRAINED[/bold yellow]"
    origin = f"{manifest.source.kind} {manifest.source.location}"
    return f"{escape(str(folder))}: {megabytes:.0f} MB, {trained} ({escape(origin)})"


@contextmanager
def _needing_extra() -> Iterator[None]:
    """Turn a failed import of another package into one line on stderr and exit code 2."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("vecserve"):
            raise
        _err.print(
            "vecserve-export needs PyTorch and ONNX: pip install 'vecserve[export]' "
            f"({error.name} is not installed)",
            markup=False,
        )
        raise typer.Exit(2) from error


def main() -> None:
    """Run the command."""
    app()


if __name__ == "__main__":
    main()
