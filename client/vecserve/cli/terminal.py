"""Options, messages and error handling that the commands share."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from vecserve._extras import MissingExtra
from vecserve.client import Client
from vecserve.errors import VecserveError
from vecserve.models import LOADING, ModelInfo

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

Prompt = Annotated[
    str | None,
    typer.Option(help="What goes before each text, in place of the model's prompts."),
]

Dimensions = Annotated[
    int | None,
    typer.Option(min=1, help="Keep that many numbers of a vector. Default: all."),
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


def refuse_two_prompts(input_type: str | None, prompt: str | None) -> None:
    """Raise typer.BadParameter if both are given."""
    if input_type is not None and prompt is not None:
        raise typer.BadParameter("--input-type and --prompt: give one of them")


def describe(client: Client, model: str, timeout: float | None) -> ModelInfo:
    """Return a model's description; say so if it is untrained or still loading."""
    info = client.model(model, timeout=timeout)
    warn_if_untrained(info)
    if info.state == LOADING:
        say("waiting", f"{info.name} is still loading", "bold")
    return info


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


def shorten(text: str, characters: int) -> str:
    """Return the beginning of a text, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= characters else line[: characters - 3] + "..."
