"""Options, messages and error handling that the commands share."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from vecserve._extras import MissingExtra
from vecserve.errors import VecserveError
from vecserve.models import ModelInfo

Server = Annotated[
    str,
    typer.Option(
        "--server", "-s", envvar="VECSERVE_SERVER", metavar="HOST:PORT", help="The server to ask."
    ),
]

Timeout = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        min=0,
        help="Give up after this long; until then, wait for a server that is starting. "
        "Default: no limit, and no wait for a server.",
        show_default=False,
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
    """Turn an error of the client into one line on stderr and exit code 1, a missing extra 2."""
    try:
        yield
    except MissingExtra as error:
        say("error", str(error), "bold red")
        raise SystemExit(2) from error
    except VecserveError as error:
        say("error", str(error), "bold red")
        raise SystemExit(1) from error
