"""Command `vecserve search`."""

import json
import sys
import tempfile
import webbrowser
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vecserve._channel import DEFAULT_ADDRESS
from vecserve._extras import require_extra
from vecserve.cli.index import Collection, Into, prompts_of, token
from vecserve.cli.inputs import text_or_file
from vecserve.cli.page import write_page
from vecserve.cli.terminal import (
    Server,
    Timeout,
    refuse_two_prompts,
    say,
    shorten,
    warn_if_untrained,
)
from vecserve.client import Client
from vecserve.models import ModelInfo
from vecserve.store import open_store
from vecserve.store.base import Embedding, StoreError
from vecserve.store.records import Hit

QUERY_PROMPT = "query"
"""Name that models give the prompt of what is searched for."""
_SHOWN_TEXT = 100
_PIPE_WIDTH = 250


def search(
    query: Annotated[str, typer.Argument(help="A text, or a file: a photo, a recording.")],
    into: Into,
    collection: Collection,
    top: Annotated[int, typer.Option("--top", "-k", min=1, max=1000, help="How many.")] = 10,
    where: Annotated[
        str | None,
        typer.Option(
            "--filter",
            metavar="EXPR",
            help="""A condition, such as 'modality == "image" and year > 2020'.""",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="A JSON line a result, in place of the table.")
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option(
            help="Also write a page with the photos, players and texts found: one file that "
            "needs no other.",
            show_default=False,
        ),
    ] = None,
    open_page: Annotated[
        bool,
        typer.Option(
            "--open", help="Show that page in a browser; without --html it is a temporary file."
        ),
    ] = False,
    input_type: Annotated[
        str | None,
        typer.Option(
            help="What the text is, one of the model's prompts. Default: query where the model "
            "lists it, else the model's own default."
        ),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(help="What goes before the text, in place of the model's prompts."),
    ] = None,
    server: Server = DEFAULT_ADDRESS,
    timeout: Timeout = None,
) -> None:
    """Search a collection that `vecserve index` made, with a text, a photo or a recording.

    The collection says which model made it, and the server must have that version. What
    --filter may name: modality, path, start_s, end_s, and what a .jsonl had beside its texts.

    \b
    vecserve search "a dog on the beach" --into vectors.db -c photos --html found.html
    vecserve search photo.jpg --into vectors.db -c photos --top 3 --open
    vecserve search "magnets" --into vectors.db -c docs --filter 'year >= 2020' --json

    Exits 0 with results, 1 if the server or the store failed, 2 for wrong usage.
    """
    refuse_two_prompts(input_type, prompt)
    if html is not None or open_page:
        require_extra("PIL", "milvus", "A page with thumbnails")
    if html is not None and not html.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {html.parent}: make it first")
    with open_store(into, collection, token()) as store, Client(server) as client:
        embedding = store.embedding
        if embedding is None:
            raise StoreError(f"there is no collection {collection} in {into}")
        info = client.model(embedding.model, embedding.version, timeout=timeout)
        warn_if_untrained(info)
        [vector] = client.embed(
            embedding.model,
            [text_or_file(query)],
            version=embedding.version,
            input_type=_input_type(info, input_type, prompt),
            prompt=prompt,
            dimensions=_dimensions(info, embedding),
            timeout=timeout,
        )
        hits = store.search(vector, top, where)
    if as_json:
        for hit in hits:
            sys.stdout.write(json.dumps(asdict(hit)) + "\n")
    else:
        _print(hits)
    if html is None and open_page:
        html = Path(tempfile.mkdtemp(prefix="vecserve-"), "found.html")
    if html is not None:
        write_page(html, query, embedding, hits)
        say("page", str(html), "bold")
        if open_page and not webbrowser.open(html.resolve().as_uri()):
            say("not opened", "there is no browser here: open the page yourself", "bold yellow")


def _input_type(info: ModelInfo, input_type: str | None, prompt: str | None) -> str | None:
    if input_type is not None or prompt is not None:
        return input_type
    return QUERY_PROMPT if QUERY_PROMPT in prompts_of(info)[0] else None


def _dimensions(info: ModelInfo, embedding: Embedding) -> int | None:
    return None if embedding.dimensions == info.dimensions else embedding.dimensions


def _print(hits: Sequence[Hit]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("rank", "score", "seconds"):
        table.add_column(column, justify="right")
    table.add_column("item", overflow="fold", ratio=1)
    for rank, hit in enumerate(hits, 1):
        table.add_row(str(rank), f"{hit.score:.3f}", seconds(hit), Text(item(hit)))
    console = Console()
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    console.print(table)


def seconds(hit: Hit) -> str:
    """Return the time of a window, as in 30-60; empty for what has none."""
    if hit.start_s is None or hit.end_s is None:
        return ""
    return f"{hit.start_s:g}-{hit.end_s:g}"


def item(hit: Hit) -> str:
    """Return the beginning of a text, or a file's path."""
    text = hit.metadata.get("text")
    return shorten(text, _SHOWN_TEXT) if isinstance(text, str) else hit.path
