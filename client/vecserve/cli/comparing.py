"""Vectors of `vecserve compare`: each model's, of all that a task asks for."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vecserve._deadline import Deadline
from vecserve._items import Item
from vecserve._results import Result
from vecserve.cli.index import DOCUMENT_PROMPTS, in_flight, prompts_of
from vecserve.cli.search import QUERY_PROMPT
from vecserve.cli.terminal import say, stderr
from vecserve.client import Client
from vecserve.evaluation.encodings import Encoding, Vectors, bytes_of
from vecserve.evaluation.intervals import Candidate
from vecserve.evaluation.task import Part
from vecserve.models import ModelInfo

_SHOWN_FAILURES = 20


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """What a model makes of a task's parts."""

    info: ModelInfo
    vectors: list[Vectors]
    """A part's, [contents, dimensions]; zeros for what failed."""
    failed: list[set[int]]
    """A part's contents that have no vector, by their places."""
    items_s: float
    """Contents embedded a second."""

    @classmethod
    def by(
        cls,
        client: Client,
        info: ModelInfo,
        parts: Sequence[Part],
        input_type: str | None,
        deadline: Deadline,
    ) -> Self:
        """Embed the parts, with a bar on stderr; what fails is named there."""
        vectors = [np.zeros((len(part.contents), info.dimensions), np.float32) for part in parts]
        failed: list[set[int]] = [set() for _ in parts]
        progress = Progress(
            TextColumn(info.name),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=stderr,
            transient=True,
            disable=not stderr.is_terminal,
        )
        count = sum(len(part.contents) for part in parts)
        bar = progress.add_task("", total=count)

        def results(part: Part, first: int | None = None) -> Iterator[Result]:
            contents = part.contents[:first]
            return client.embed_stream(
                info.name,
                [Item(content, id=_name(content)) for content in contents],
                version=info.version,
                input_type=_input_type(info, part, input_type),
                timeout=deadline.left_s,
                ordered=False,
                in_flight=in_flight(info),
            )

        for _ in results(parts[0], 1):
            pass  # a model that is loading is waited for before the clock starts
        started = time.monotonic()
        with progress:
            for part, rows, bad in zip(parts, vectors, failed, strict=True):
                for result in results(part):
                    progress.advance(bar)
                    if result.error is not None:
                        bad.add(result.index)
                        if sum(map(len, failed)) <= _SHOWN_FAILURES:
                            say("failed", f"{result.id}: {result.error.message}", "bold red")
                    elif result.vector.ndim == 1:
                        rows[result.index] = result.vector
                    else:
                        raise typer.BadParameter(
                            f"{info.name} gives a vector a position, which has no cosine"
                        )
        seconds = time.monotonic() - started
        if (beyond := sum(map(len, failed)) - _SHOWN_FAILURES) > 0:
            say("failed", f"and {beyond:,} more by {info.name}", "bold red")
        return cls(info, vectors, failed, (count - sum(map(len, failed))) / max(seconds, 1e-3))

    def forms(self, lengths: Sequence[int], encodings: Sequence[Encoding]) -> list[Candidate]:
        """Return the forms in which its vectors may be kept, the whole ones first.

        Lengths that they do not have are passed over.
        """
        info = self.info
        whole = info.dimensions
        return [
            Candidate(
                info.name,
                info.version,
                info.trained,
                length,
                whole,
                encoding,
                bytes_of(length, encoding),
                self.items_s,
            )
            for length in dict.fromkeys((whole, *(own for own in lengths if own < whole)))
            for encoding in dict.fromkeys(("float32", *encodings))
        ]


def _input_type(info: ModelInfo, part: Part, given: str | None) -> str | None:
    """Return the prompt to ask for: of those that may be meant, the first that the model lists."""
    prompts, _ = prompts_of(info)
    wanted = {"query": (QUERY_PROMPT,), "document": DOCUMENT_PROMPTS}.get(part.role or "", (given,))
    return next((name for name in wanted if name in prompts), None)


def _name(content: object) -> str:
    """Return a file's path, or the beginning of a text."""
    return " ".join(str(content).split())[:60]
