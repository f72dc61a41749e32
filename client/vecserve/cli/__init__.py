"""Command line of the client: `vecserve`."""

from importlib.metadata import version
from typing import Annotated

import typer

from vecserve.cli.bench import bench
from vecserve.cli.compare import compare
from vecserve.cli.embed import embed
from vecserve.cli.index import index
from vecserve.cli.models import models
from vecserve.cli.search import search
from vecserve.cli.similarity import similarity
from vecserve.cli.terminal import reporting_errors

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(embed)
app.command()(models)
app.command()(index)
app.command()(search)
app.command()(similarity)
app.command()(compare)
app.add_typer(bench, name="bench")


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"vecserve {version('vecserve')}")
        raise typer.Exit


@app.callback()
def vecserve(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Turn text, images, audio and video into vectors, with a vecserve server.

    The server is a process of its own: start one with [bold]vecserve-server[/].

    \b
    vecserve models                                          what the server has
    vecserve embed -m all-MiniLM-L6-v2 --text "Hello"        one text, to stdout
    vecserve embed -m resnet-50 photos/ -o photos.npy        every photo in a folder
    vecserve index -m resnet-50 photos/ --into vectors.db -c photos      into a database
    vecserve search photo.jpg --into vectors.db -c photos                what is alike
    vecserve similarity "A cat" "A dog" -m all-MiniLM-L6-v2              how alike
    vecserve compare -m all-MiniLM-L6-v2,e5-small-v2 --pairs sts.csv     which is right for you
    """


def main() -> None:
    """Run the command; exits 1 if something failed, 2 for wrong usage."""
    with reporting_errors():
        app()
