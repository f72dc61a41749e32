"""Command `vecserve index`."""

import os
import sys
import time
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

from vecserve._channel import DEFAULT_ADDRESS
from vecserve._deadline import Deadline
from vecserve.cli.indexing import Counts, Indexer
from vecserve.cli.inputs import STDIN, Inputs, find
from vecserve.cli.sources import TABLES, roots, sources
from vecserve.cli.terminal import (
    Dimensions,
    Prompt,
    Server,
    Timeout,
    describe,
    refuse_two_prompts,
    say,
    stderr,
)
from vecserve.client import Client
from vecserve.models import ModelInfo
from vecserve.store import open_store
from vecserve.store.base import Embedding, Metric, Store

DOCUMENT_PROMPTS = ("passage", "document")
"""Names that models give the prompt of what is searched, as queries have `query`."""
_IN_FLIGHT_TEXTS = 256
_IN_FLIGHT_FILES = 64
_SHOWN_VANISHED = 20

Into = Annotated[
    str,
    typer.Option(
        "--into",
        envvar="VECSERVE_INTO",
        metavar="STORE",
        help="A file NAME.db (Milvus Lite), a folder NAME.parquet, or the URI of a Milvus server "
        "or Zilliz Cloud, whose token is in MILVUS_TOKEN.",
    ),
]
Collection = Annotated[
    str, typer.Option("--collection", "-c", help="The collection: vectors of one model.")
]


def token() -> str | None:
    """Return the token of a Milvus server, if there is one; never from the command line."""
    return os.environ.get("MILVUS_TOKEN")


def index(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILES | -]...",
            help="Files, folders (what the model takes in them and below), globs in quotes, "
            ".jsonl and .parquet files, or - for lines of text on stdin.",
            show_default=False,
        ),
    ] = None,
    *,
    model: Annotated[str, typer.Option("--model", "-m", help="The model, as `models` lists it.")],
    into: Into,
    collection: Collection,
    metric: Annotated[
        Metric, typer.Option(help="How vectors are compared; ip: inner product.")
    ] = "cosine",
    input_type: Annotated[
        str | None,
        typer.Option(
            help="What texts are, one of the model's prompts. Default: passage or document where "
            "the model lists one, else the model's own default."
        ),
    ] = None,
    prompt: Prompt = None,
    dimensions: Dimensions = None,
    prune: Annotated[
        bool,
        typer.Option(
            "--prune",
            help="Then remove what is no longer there: files and rows below the paths given. Lists "
            "them and asks first.",
        ),
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="With --prune: do not ask. Without it, no terminal: list.")
    ] = False,
    server: Server = DEFAULT_ADDRESS,
    timeout: Timeout = None,
) -> None:
    """Embed files and texts into a collection that `vecserve search` searches.

    Run it again at any time, after a crash too: what is unchanged is passed over, by
    a hash of its content, and what changed is embedded anew. A long audio or video gives one
    vector a window. A collection holds the vectors of one model, version and prompt; another
    is refused. An item that fails is named on stderr and the others go on.

    \b
    vecserve index photos/ -m clip-vit-base-patch32 --into vectors.db -c photos
    vecserve index - -m all-MiniLM-L6-v2 --into vectors.db -c notes < notes.txt
    vecserve index rows.jsonl -m e5-small-v2 --into vectors.parquet -c docs
    vecserve index 'talks/**/*.mp3' -m whisper-base --into https://HOST:19530 -c talks

    A line of a .jsonl is {"text": ...} or {"path": ...}, with an "id" if it has one; what
    else it has is kept with the vector, for --filter. A .parquet has the same as columns.
    Exits 0 if all went well, 1 if an item, the server or the store failed, 2 for wrong usage.
    """
    if not files:
        if sys.stdin.isatty():
            raise typer.BadParameter("nothing to index: give FILES, or - for stdin")
        files = [STDIN]
    refuse_two_prompts(input_type, prompt)
    deadline = Deadline(timeout)
    with Client(server) as client:
        info = describe(client, model, timeout)
        name, before = _prompt(info, input_type, prompt)
        width = min(dimensions or info.dimensions, info.dimensions)
        embedding = Embedding(info.name, info.version, width, metric, before)
        with open_store(into, collection, token()) as store:
            store.ensure(embedding)
            inputs = find((), files, info)
            progress = IndexProgress(inputs)
            with progress, Indexer(store, embedding, progress.advance, progress.fail) as indexer:
                indexer.seen = set() if prune else None
                results = client.embed_stream(
                    info.name,
                    indexer.items(sources(inputs, info, indexer.fail)),
                    version=info.version,
                    windows="each",
                    input_type=name,
                    prompt=prompt,
                    dimensions=dimensions,
                    timeout=deadline.left_s,
                    ordered=False,
                    in_flight=in_flight(info),
                )
                try:
                    indexer.take(results)
                except KeyboardInterrupt:
                    say("stopped", "what was written stays: run it again to go on", "bold red")
                    raise typer.Exit(130) from None
            counts = indexer.counts
            progress.summarize(counts, inputs.skipped)
            if indexer.seen is not None:
                _prune(store, roots(files), indexer.seen, counts, yes)
    if counts.failed:
        raise typer.Exit(1)


class IndexProgress:
    """Progress on stderr. A context: the bar."""

    def __init__(self, inputs: Inputs) -> None:
        self._started = time.monotonic()
        self._progress = Progress(
            SpinnerColumn(),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:.0f}/s, {task.fields[failed]} failed"),
            TimeRemainingColumn(),
            console=stderr,
            transient=True,
            disable=not stderr.is_terminal,
        )
        whole = not any(path.suffix in TABLES for path in inputs.paths)
        total = inputs.count if whole else None
        self._bar = self._progress.add_task("", total=total, rate=0.0, failed=0)
        self._done = 0
        self._failed = 0

    def __enter__(self) -> None:
        self._progress.start()

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def advance(self, items: int) -> None:
        """Count items that are dealt with."""
        self._done += items
        rate = self._done / max(time.monotonic() - self._started, 1e-3)
        self._progress.update(self._bar, advance=items, rate=rate, failed=self._failed)

    def fail(self, name: str, message: str) -> None:
        """Report an item that has no vector."""
        self._failed += 1
        self.advance(1)
        say("failed", f"{name}: {message}", "bold red")

    def summarize(self, counts: Counts, skipped: int) -> None:
        """Write the last line."""
        seconds = time.monotonic() - self._started
        parts = [
            f"{counts.embedded} embedded",
            f"{counts.unchanged} unchanged",
            f"{counts.failed} failed",
        ]
        if counts.truncated:
            parts.append(f"{counts.truncated} truncated")
        if skipped:
            parts.append(f"{skipped} of other kinds skipped")
        rate = f"{counts.embedded / max(seconds, 1e-3):.1f}/s"
        say("done", f"{', '.join(parts)} in {seconds:.1f} s ({rate})", "bold")


def _prompt(
    info: ModelInfo, input_type: str | None, prompt: str | None
) -> tuple[str | None, str | None]:
    """Return the input type to ask for, and the prompt that texts then have."""
    if prompt is not None:
        return None, prompt or None
    prompts, default = prompts_of(info)
    name = input_type or next((own for own in DOCUMENT_PROMPTS if own in prompts), None)
    return name, prompts.get(name or default or "") or None


def prompts_of(info: ModelInfo) -> tuple[dict[str, str], str | None]:
    """Return the prompts of a model's texts by name, and the name of the default one."""
    for modality in info.modalities:
        if modality.name == "text":
            return modality.prompts, modality.default_prompt
    return {}, None


def in_flight(info: ModelInfo) -> int:
    """Return how many items are on their way: files are held in memory meanwhile."""
    only_text = [own.name for own in info.modalities] == ["text"]
    return _IN_FLIGHT_TEXTS if only_text else _IN_FLIGHT_FILES


def _prune(store: Store, places: Sequence[str], seen: set[str], counts: Counts, yes: bool) -> None:
    """Remove records below `places` whose files or rows are gone, once that is agreed to."""
    if counts.failed:
        say("not pruned", "items failed, so it is not known what is gone", "bold yellow")
        return
    gone = [
        known
        for known in store.known()
        if known.path not in seen and any(_is_gone(known.path, place) for place in places)
    ]
    if not gone:
        say("pruned", "nothing is gone", "bold")
        return
    names = sorted({known.path for known in gone})
    for name in names[:_SHOWN_VANISHED]:
        say("gone", name, "bold yellow")
    if len(names) > _SHOWN_VANISHED:
        say("gone", f"and {len(names) - _SHOWN_VANISHED} more", "bold yellow")
    what = f"{len(gone)} vectors of {len(names)} items"
    if not yes and not (
        sys.stdin.isatty() and typer.confirm(f"Remove {what}?", default=False, err=True)
    ):
        say("not pruned", f"{what} stay; --yes removes them", "bold yellow")
        return
    store.delete([known.key for known in gone])
    say("pruned", what, "bold")


def _is_gone(path: str, place: str) -> bool:
    """Whether a record that this run did not see belongs to `place` and is no longer there.

    A file that is still there stays: the run may have had a narrower glob. So do the
    rows of one, unless `place` is that file.
    """
    if path.startswith(f"{place}#"):
        return True
    if path != place and not path.startswith(place.rstrip("/") + "/"):
        return False
    origin, is_row, _ = path.rpartition("#")
    return not os.path.lexists(path) and not (is_row and os.path.lexists(origin))
