"""Interface of a task: data whose right answers are known, and what it asks of vectors."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from vecserve._items import modality_of_suffix
from vecserve.errors import VecserveError
from vecserve.evaluation.encodings import Vectors
from vecserve.evaluation.metrics import Floats, Indices

LEAST_CASES = 10
"""Fewer cases drawn again and again say nothing of others like them."""

Content = str | Path


class DataError(VecserveError):
    """The data is not what a task needs; the message names the file and the line."""


@dataclass(frozen=True, slots=True)
class Part:
    """What is embedded alike."""

    contents: Sequence[Content]
    role: Literal["query", "document"] | None = None
    """Of texts, by which models choose a prompt; None where all are alike."""


class Task(Protocol):
    """Data whose right answers are known. Its cases are pairs, files or queries."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """What is measured, the one that decides first."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the reader of the result has to know of the data."""

    @property
    def cases(self) -> str:
        """What is counted: pairs, files, queries."""

    @property
    def count(self) -> int:
        """How many cases there are."""

    @property
    def parts(self) -> Sequence[Part]:
        """What has to be embedded."""

    def without(self, failed: Sequence[set[int]]) -> Self:
        """Return the task without contents that have no vector: their places, a set a part.

        Those that stay move up to the places left.

        Raises DataError if too little is left.
        """

    def score(self, vectors: Sequence[Vectors]) -> Floats:
        """Return a value a case, [metrics, cases]; `vectors` are the parts', of unit length."""

    def statistic(self, scores: Floats, sample: Indices) -> Floats:
        """Return the metrics of samples of cases, [..., metrics, samples].

        `scores` is [..., metrics, cases], `sample` [samples, cases drawn].
        """


def check_count(where: str, count: int, cases: str) -> None:
    """Raise DataError for too few cases."""
    if count < LEAST_CASES:
        raise DataError(f"{where} has {count} {cases}: give {LEAST_CASES} or more")


def kept(count: int, failed: set[int]) -> NDArray[np.intp]:
    """Return the places that did not fail, in order."""
    return np.array([place for place in range(count) if place not in failed], np.intp)


def file_or_text(cell: str, folder: Path) -> Content:
    """Return the photo, recording or video that a cell names, else the cell as a text.

    Raises ValueError if there is no such file in `folder`.
    """
    name = cell.strip()
    modality = None if any(map(str.isspace, name)) else modality_of_suffix(Path(name))
    if modality is None or modality == "text":
        return cell
    if not (folder / name).is_file():
        raise ValueError(f"there is no file {folder / name}")
    return folder / name


def json_lines(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name of each line and its object; empty lines are passed over.

    Raises DataError.
    """
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                where = f"{file}, line {number}"
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise DataError(f"{where}: no JSON: {error}") from None
                if not isinstance(row, dict):
                    raise DataError(f"{where}: not an object")
                yield where, row
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}") from None


def content_of(where: str, row: dict[str, Any], folder: Path) -> Content:
    """Return what a line's "text" or "path" says; a path is relative to `folder`.

    Raises DataError.
    """
    text, path = row.get("text"), row.get("path")
    if (text is None) == (path is None) or not isinstance(text or path or "", str):
        raise DataError(f'{where}: give a string as "text" or as "path"')
    if path is None:
        return str(text)
    if not (folder / path).is_file():
        raise DataError(f"{where}: there is no file {folder / path}")
    return folder / str(path)
