"""Task of pairs: does the cosine of two items rank as people's score of their likeness does?"""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from vecserve.evaluation.encodings import Vectors
from vecserve.evaluation.metrics import Floats, Indices, spearman
from vecserve.evaluation.task import Content, DataError, Part, check_count, file_or_text, kept

COLUMNS = ("sentence1", "sentence2", "score")
"""As the STS benchmark's files have them on the hub."""


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Pairs of items, and how alike each pair is."""

    source: str
    contents: Sequence[Content]
    """No two the same."""
    places: NDArray[np.intp]
    """[pairs, 2]: each pair's two contents."""
    gold: Floats
    """[pairs], larger is more alike."""
    metrics: tuple[str, ...] = ("Spearman",)
    notes: tuple[str, ...] = ()

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read a .csv, or .tsv with tabs, that has the columns of `COLUMNS` and any others.

        A cell is a text, or the name of a photo, recording or video beside the file.
        Raises DataError.
        """
        rows: list[tuple[Content, Content]] = []
        scores = []
        try:
            with file.open(encoding="utf-8-sig", newline="") as lines:
                delimiter = "\t" if file.suffix == ".tsv" else ","
                table = csv.DictReader(lines, delimiter=delimiter)
                _check_header(file, table.fieldnames or ())
                for row in table:
                    try:
                        one, other, score = _row(row, file.parent)
                    except ValueError as error:
                        raise DataError(f"{file}, line {table.line_num}: {error}") from None
                    rows.append((one, other))
                    scores.append(score)
        except OSError as error:
            raise DataError(f"cannot read {file}: {error.strerror}") from None
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"cannot read {file}: {error}") from None
        place: dict[Content, int] = {}
        for pair in rows:
            for content in pair:
                place.setdefault(content, len(place))
        places = np.array([[place[one], place[other]] for one, other in rows], np.intp)
        return cls(str(file), list(place), places, np.array(scores))._checked()

    def _checked(self) -> Self:
        check_count(self.source, self.count, self.cases)
        if len(set(self.gold.tolist())) == 1:
            raise DataError(
                f"{self.source}: every score is {self.gold[0]:g}: there is nothing to rank"
            )
        return self

    @property
    def cases(self) -> str:
        """What is counted."""
        return "pairs"

    @property
    def count(self) -> int:
        """How many pairs there are."""
        return len(self.places)

    @property
    def parts(self) -> Sequence[Part]:
        """What has to be embedded."""
        return [Part(self.contents)]

    def without(self, failed: Sequence[set[int]]) -> Self:
        """Return the task without pairs of contents that have no vector."""
        stay = kept(len(self.contents), failed[0])
        moved = np.full(len(self.contents), -1)
        moved[stay] = np.arange(len(stay))
        places = moved[self.places]
        whole = (places >= 0).all(axis=1)
        contents = [self.contents[place] for place in stay.tolist()]
        left = replace(self, contents=contents, places=places[whole], gold=self.gold[whole])
        return left._checked()

    def score(self, vectors: Sequence[Vectors]) -> Floats:
        """Return the pairs' cosines, [1, pairs]."""
        one, other = (vectors[0][self.places[:, side]] for side in (0, 1))
        return np.asarray(np.einsum("pd,pd->p", one, other), np.float64)[np.newaxis]

    def statistic(self, scores: Floats, sample: Indices) -> Floats:
        """Return Spearman's correlation of cosine and score, [..., 1, samples]."""
        return spearman(self.gold[sample], scores[..., sample])


def _check_header(file: Path, found: Sequence[str]) -> None:
    missing = [name for name in COLUMNS if name not in found]
    if missing:
        has = ", ".join(map(repr, found)) or "nothing"
        raise DataError(
            f"{file} has no column {' or '.join(missing)}: its first line is to name "
            f"{', '.join(COLUMNS)}; it has {has}"
        )


def _row(row: dict[str, str | None], folder: Path) -> tuple[Content, Content, float]:
    """Return two contents and their score. Raises ValueError."""
    one, other, score = (row[name] for name in COLUMNS)
    if not one or not other or score is None:
        empty = next(name for name in COLUMNS if not row[name])
        raise ValueError(f"{empty} is empty")
    try:
        number = float(score)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"the score {score!r} is no number")
    return file_or_text(one, folder), file_or_text(other, folder), number
