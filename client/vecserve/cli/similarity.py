"""Command `vecserve similarity`."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.style import Style
from rich.table import Table
from rich.text import Text

from vecserve._channel import DEFAULT_ADDRESS
from vecserve._deadline import Deadline
from vecserve._extras import require_extra
from vecserve._items import Item
from vecserve.cli.heatmap import Similarities, write_html, write_png
from vecserve.cli.inputs import text_or_file
from vecserve.cli.terminal import (
    Dimensions,
    Prompt,
    Server,
    Timeout,
    describe,
    refuse_two_prompts,
    say,
    shorten,
)
from vecserve.client import Client

MOST_ITEMS = 100
"""More are no first look; and every one is a column of the table."""
_SHOWN_TEXT = 60
_CELL_WIDTH = 6


def similarity(
    items: Annotated[
        list[str],
        typer.Argument(
            metavar="ITEM ITEM...", help="Texts, and files: photos, recordings, videos."
        ),
    ],
    model: Annotated[str, typer.Option("--model", "-m", help="The model, as `models` lists it.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object, in place of the table.")
    ] = False,
    png: Annotated[
        Path | None, typer.Option(help="Also draw the table as a picture.", show_default=False)
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            help="Also write it as a page, with the photos: one file that needs no other.",
            show_default=False,
        ),
    ] = None,
    input_type: Annotated[
        str | None,
        typer.Option(help="What texts are, one of the model's prompts. Default: the model's."),
    ] = None,
    prompt: Prompt = None,
    dimensions: Dimensions = None,
    server: Server = DEFAULT_ADDRESS,
    timeout: Timeout = None,
) -> None:
    """Show how alike items are to a model: the cosine of each with each, 1 for the same.

    What counts as near differs from model to model: look at which are nearer than others,
    not at the numbers themselves. Text and photos can be mixed where a model takes both.

    \b
    vecserve similarity "A cat" "A kitten" "A train" -m all-MiniLM-L6-v2
    vecserve similarity "a photo of a dog" photos/*.jpg -m clip-vit-base-patch32 --html map.html

    Exits 0 with the table, 1 if an item or the server failed, 2 for wrong usage.
    """
    if len(items) < 2:
        raise typer.BadParameter("one item is like nothing else: give two or more")
    if len(items) > MOST_ITEMS:
        raise typer.BadParameter(f"{len(items)} items: give {MOST_ITEMS} at the most")
    refuse_two_prompts(input_type, prompt)
    _check_outputs(png, html)
    contents = [text_or_file(own) for own in items]
    deadline = Deadline(timeout)
    with Client(server) as client:
        info = describe(client, model, timeout)
        vectors = client.embed(
            info.name,
            [Item(content, id=own) for content, own in zip(contents, items, strict=True)],
            version=info.version,
            input_type=input_type,
            prompt=prompt,
            dimensions=dimensions,
            timeout=deadline.left_s,
        )
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    title = f"Cosine by {info.name}" + ("" if info.trained else " (UNTRAINED)")
    similarities = Similarities(title, contents, np.clip(unit @ unit.T, -1, 1))
    if as_json:
        found = {
            "model": info.name,
            "version": info.version,
            "items": items,
            "cosine": similarities.cosines.round(6).tolist(),
        }
        sys.stdout.write(json.dumps(found) + "\n")
    else:
        _print(similarities, items)
    if png is not None:
        write_png(png, similarities)
        say("picture", str(png), "bold")
    if html is not None:
        write_html(html, similarities)
        say("page", str(html), "bold")


def _check_outputs(png: Path | None, html: Path | None) -> None:
    """Raise typer.BadParameter or MissingExtra for what could not be written."""
    if png is not None:
        require_extra("matplotlib", "compare", "A picture")
    for file in (png, html):
        if file is not None and not file.parent.is_dir():
            raise typer.BadParameter(f"there is no folder {file.parent}: make it first")


def _print(similarities: Similarities, names: Sequence[str]) -> None:
    table = Table(box=None, pad_edge=False, padding=0)
    table.add_column("", justify="right")
    table.add_column(" item", overflow="fold")
    for number in range(len(names)):
        table.add_column(f"{number + 1} ", justify="right", min_width=_CELL_WIDTH)
    for row, name in enumerate(names):
        cells = [_cell(similarities, row, column) for column in range(len(names))]
        table.add_row(str(row + 1), Text(f" {shorten(name, _SHOWN_TEXT)} "), *cells)
    console = Console()
    if not console.is_terminal:
        console.width = _CELL_WIDTH * len(names) + _SHOWN_TEXT + 10
    console.print(table)


def _cell(similarities: Similarities, row: int, column: int) -> Text:
    red, green, blue = similarities.colour(row, column)
    style = Style(color="black", bgcolor=f"rgb({red},{green},{blue})")
    return Text(f"{similarities.cosines[row, column]:.2f} ".rjust(_CELL_WIDTH), style)
