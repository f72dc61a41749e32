"""Task of labels: is a file's class that of the files nearest to it?"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from vecserve.evaluation.encodings import Vectors
from vecserve.evaluation.metrics import Floats, Indices, nearest, votes
from vecserve.evaluation.task import DataError, Part, check_count, kept


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """Files, and the class of each: the name of its folder in `source`.

    Each file is asked for in turn, and all others are there to be found (leave one out).
    """

    source: str
    files: Sequence[Path]
    classes: Sequence[str]
    neighbours: int
    """How many vote."""
    asked: NDArray[np.intp]
    """Places of the files that have another of their class."""
    metrics: tuple[str, ...]
    notes: tuple[str, ...]

    @classmethod
    def of(cls, folder: Path, files: Sequence[Path], neighbours: int) -> Self:
        """Take the files below `folder`/CLASS. Raises DataError."""
        inside = [file for file in files if file.parent != folder]
        if not inside:
            raise DataError(
                f"{folder} has no folders of files that every model takes: "
                f"put the files of a class into a folder of its name, {folder / 'CLASS'}"
            )
        notes = []
        if outside := len(files) - len(inside):
            notes.append(f"left out, as they are in no folder of {folder}: {outside} files")
        classes = [file.relative_to(folder).parts[0] for file in inside]
        found = Counter(classes)
        if lone := sorted(name for name, count in found.items() if count == 1):
            notes.append(
                f"classes of one file, which no other can tell: {', '.join(lone[:5])}"
                + (f" and {len(lone) - 5} more" if len(lone) > 5 else "")
                + "; it is there to be found, but not asked for"
            )
        name = "nearest neighbour" if neighbours == 1 else f"{neighbours} nearest neighbours"
        return cls(
            *(str(folder), inside, classes, neighbours, np.empty(0, np.intp)),
            metrics=(f"accuracy of the {name}",),
            notes=tuple(notes),
        )._checked()

    def _checked(self) -> Self:
        counts = Counter(self.classes)
        if len(counts) == 1:
            raise DataError(
                f"{self.source} has one class only, {self.classes[0]!r}: there is nothing to tell "
                "apart"
            )
        asked = [place for place, name in enumerate(self.classes) if counts[name] > 1]
        check_count(self.source, len(asked), "files with another of their class")
        if self.neighbours >= len(self.files):
            raise DataError(
                f"{self.source} has {len(self.files)} files: {self.neighbours} neighbours of one "
                "cannot be had"
            )
        return replace(self, asked=np.array(asked, np.intp))

    @property
    def cases(self) -> str:
        """What is counted."""
        return "files"

    @property
    def count(self) -> int:
        """How many files are asked for."""
        return len(self.asked)

    @property
    def parts(self) -> Sequence[Part]:
        """What has to be embedded."""
        return [Part(self.files)]

    def without(self, failed: Sequence[set[int]]) -> Self:
        """Return the task without files that have no vector."""
        stay = kept(len(self.files), failed[0]).tolist()
        left = replace(
            self,
            files=[self.files[place] for place in stay],
            classes=[self.classes[place] for place in stay],
        )
        return left._checked()

    def score(self, vectors: Sequence[Vectors]) -> Floats:
        """Return 1 for each file asked for whose neighbours tell its class, else 0, [1, files]."""
        _, labels = np.unique(self.classes, return_inverse=True)
        found = nearest(vectors[0], vectors[0], self.neighbours, themselves=False)
        right = votes(found, labels) == labels
        return np.asarray(right[self.asked], np.float64)[np.newaxis]

    def statistic(self, scores: Floats, sample: Indices) -> Floats:
        """Return the share of right answers in samples of files, [..., metrics, samples]."""
        return np.asarray(scores[..., sample].mean(axis=-1))
