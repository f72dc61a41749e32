"""What the commands share: the server's address, messages to stderr, errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from vecserve.errors import VecserveError
from vecserve.models import ModelInfo

Server = Annotated[
    str,
    typer.Option(
        "--server", "-s", envvar="VECSERVE_SERVER", metavar="HOST:PORT", help="The server to ask."
    ),
]

stderr = Console(stderr=True, soft_wrap=True)


def say(label: str, message: str, style: str) -> None:
    """Write one line to stderr, its label in colour."""
    stderr.print(Text.assemble((f"{label}:", style), f" {message}"))


def warn_if_untrained(model: ModelInfo) -> None:
    """Say so if the model's vectors mean nothing."""
    if not model.trained:
        say(
            "UNTRAINED",
            f"{model.name} has random weights: its vectors mean nothing",
            "bold yellow",
        )


@contextmanager
def reporting_errors() -> Iterator[None]:
    """Turn an error of the client into one line on stderr and exit code 1."""
    try:
        yield
    except VecserveError as error:
        say("error", str(error), "bold red")
        raise SystemExit(1) from error
