"""Command `vecserve embed`."""

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from vecserve._channel import DEFAULT_ADDRESS
from vecserve._deadline import Deadline
from vecserve._results import Result
from vecserve.cli.inputs import STDIN, Inputs, find
from vecserve.cli.outputs import Row, Writer, check_output, open_writer
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


def embed(
    model: Annotated[str, typer.Option("--model", "-m", help="The model, as `models` lists it.")],
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILES | -]...",
            help="Files, folders (what the model takes in them and below), globs in quotes, or - "
            "for lines of text on stdin.",
            show_default=False,
        ),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option("--text", "-t", help="A text itself. May be given again.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            callback=check_output,
            help="A .jsonl, .npy or .parquet file. Default: JSON lines on stdout.",
            show_default=False,
        ),
    ] = None,
    pooling: Annotated[
        Literal["mean", "cls", "last"] | None,
        typer.Option(help="How positions become one vector. Default: the model's way."),
    ] = None,
    normalize: Annotated[
        bool | None,
        typer.Option(
            "--normalize/--no-normalize", help="Unit length or not. Default: the model's way."
        ),
    ] = None,
    input_type: Annotated[
        str | None,
        typer.Option(
            help="What texts are, one of the model's prompts: query, passage and so on, as "
            "`vecserve models` lists them. Default: the model's, if it has one."
        ),
    ] = None,
    prompt: Prompt = None,
    dimensions: Dimensions = None,
    force_dimensions: Annotated[
        bool,
        typer.Option(
            "--force-dimensions", help="Keep that many even if the model was not trained for it."
        ),
    ] = False,
    frames: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Embed videos with a model for images: the mean of so many frames, sampled "
            "evenly.",
            show_default=False,
        ),
    ] = None,
    server: Server = DEFAULT_ADDRESS,
    timeout: Timeout = None,
) -> None:
    """Embed texts, images, audio and video: one vector an item, in the order given.

    An item that fails is named on stderr and left out; the others go on. Exits
    0 if all went well, 1 if an item or the server failed, 2 for wrong usage. A
    model that is loading is waited for, 5 minutes unless --timeout says otherwise.

    \b
    vecserve embed -m all-MiniLM-L6-v2 -t "A cat" -t "A dog"
    vecserve embed -m all-MiniLM-L6-v2 - -o lines.npy < lines.txt
    vecserve embed -m resnet-50 photos/ -o photos.parquet
    vecserve embed -m whisper-base 'talks/**/*.mp3' --pooling mean
    vecserve embed -m clip-vit-base-patch32 clips/ --frames 8 -o clips.npy
    vecserve embed -m e5-small-v2 passages.txt --input-type passage -o passages.npy

    .jsonl has item, tokens, truncated and vector on each line; .parquet the same
    as columns. .npy is the float32 array; beside it FILE.npy.items.jsonl names
    the item of each row.
    """
    texts, files = text or [], files or []
    if not texts and not files:
        if sys.stdin.isatty():
            raise typer.BadParameter("nothing to embed: give FILES, --text, or - for stdin")
        files = [STDIN]
    refuse_two_prompts(input_type, prompt)
    deadline = Deadline(timeout)
    with Client(server) as client:
        info = describe(client, model, timeout)
        inputs = find(texts, files, info, frames=frames is not None)
        width = min(dimensions or info.dimensions, info.dimensions)
        tally = Tally(inputs)
        try:
            with open_writer(output, replace(info, dimensions=width)) as writer, tally:
                for result in client.embed_stream(
                    model,
                    inputs.items(tally.fail),
                    pooling=pooling,
                    normalize=normalize,
                    input_type=input_type,
                    prompt=prompt,
                    dimensions=dimensions,
                    force_dimensions=force_dimensions,
                    frames=frames,
                    timeout=deadline.left_s,
                ):
                    tally.take(result, writer)
        except KeyboardInterrupt:
            say("stopped", f"{output} was not written" if output else "by you", "bold red")
            raise typer.Exit(130) from None
    tally.summarize()
    if tally.failed:
        raise typer.Exit(1)


class Tally:
    """Counts what came back, and shows it on stderr. A context: the progress bar."""

    def __init__(self, inputs: Inputs) -> None:
        self.done = 0
        self.failed = 0
        self._truncated = 0
        self._skipped = inputs.skipped
        self._started = time.monotonic()
        self._progress = Progress(
            SpinnerColumn(),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=stderr,
            transient=True,
            disable=not stderr.is_terminal,
        )
        self._bar = self._progress.add_task("", total=inputs.count)

    def __enter__(self) -> None:
        self._progress.start()

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def fail(self, name: str, message: str) -> None:
        """Report an item that has no vector."""
        self.failed += 1
        self._progress.advance(self._bar)
        say("failed", f"{name}: {message}", "bold red")

    def take(self, result: Result, writer: Writer) -> None:
        """Write a result, or report its failure."""
        if result.error is not None:
            self.fail(result.id, result.error.message)
            return
        if result.vector.ndim != 1:
            raise typer.BadParameter(f"{result.model} gives a vector a position: choose --pooling")
        content = str(result.item.content)
        writer.write(Row(content, result.vector, result.token_count, result.truncated))
        self.done += 1
        self._truncated += result.truncated
        self._progress.advance(self._bar)

    def summarize(self) -> None:
        """Write the last line."""
        seconds = time.monotonic() - self._started
        parts = [f"{self.done} embedded", f"{self.failed} failed"]
        if self._truncated:
            parts.append(f"{self._truncated} truncated")
        if self._skipped:
            parts.append(f"{self._skipped} of other kinds skipped")
        rate = f"{self.done / seconds:.1f}/s"
        say("done", f"{', '.join(parts)} in {seconds:.1f} s ({rate})", "bold")
