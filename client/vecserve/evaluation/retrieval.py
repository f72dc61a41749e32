"""Task of retrieval: are the documents that answer a query among those nearest to it?"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from vecserve.evaluation.encodings import Vectors
from vecserve.evaluation.metrics import Floats, Indices, ndcg, nearest, recall
from vecserve.evaluation.task import (
    Content,
    DataError,
    Part,
    check_count,
    content_of,
    json_lines,
    kept,
)

NDCG_RESULTS = 10


@dataclass(frozen=True, slots=True, eq=False)
class Retrieval:
    """Queries, documents, and which document answers which query, how well."""

    source: str
    queries: Sequence[Content]
    documents: Sequence[Content]
    relevant: Sequence[Mapping[int, float]]
    """A query's grades, over 0, by the places of documents."""
    results: int
    """How many recall counts."""
    metrics: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @classmethod
    def read(cls, queries_file: Path, relevant_file: Path, results: int) -> Self:
        """Read two .jsonl files.

        A line of queries is {"id": ..., "text": ...} or {"id": ..., "path": ...}; one of
        documents has "text" or "path", and in "queries" the ids of the queries that it
        answers, [id, ...], or {id: grade}; without it, it answers none. Raises DataError.
        """
        places: dict[str, int] = {}
        queries: list[Content] = []
        for where, row in json_lines(queries_file):
            own = row.get("id")
            if not isinstance(own, str | int):
                raise DataError(f'{where}: give an "id", a string or a number')
            if str(own) in places:
                raise DataError(f"{where}: the id {own!r} is there twice")
            places[str(own)] = len(queries)
            queries.append(content_of(where, row, queries_file.parent))
        documents: list[Content] = []
        relevant: list[dict[int, float]] = [{} for _ in queries]
        for where, row in json_lines(relevant_file):
            for own, grade in _grades(where, row.get("queries", [])).items():
                if own not in places:
                    raise DataError(f"{where}: {own!r} is the id of no query in {queries_file}")
                if grade:
                    relevant[places[own]][len(documents)] = grade
            documents.append(content_of(where, row, relevant_file.parent))
        name = f"{queries_file} and {relevant_file}"
        metrics = (f"nDCG@{NDCG_RESULTS}", f"recall@{results}")
        return cls(name, queries, documents, relevant, results, metrics)._checked()

    def _checked(self) -> Self:
        """Return the task without queries that nothing answers. Raises DataError."""
        answered = [place for place, grades in enumerate(self.relevant) if grades]
        notes = self.notes
        if unanswered := len(self.queries) - len(answered):
            notes += (f"left out, as no document answers them: {unanswered} queries",)
        check_count(self.source, len(answered), "queries that a document answers")
        if len(self.documents) <= max(self.results, NDCG_RESULTS):
            raise DataError(
                f"{self.source}: there are {len(self.documents)} documents, and recall counts "
                f"{self.results}, nDCG {NDCG_RESULTS}: all would be found; add documents that "
                "answer no query"
            )
        return replace(
            self,
            queries=[self.queries[place] for place in answered],
            relevant=[self.relevant[place] for place in answered],
            notes=notes,
        )

    @property
    def cases(self) -> str:
        """What is counted."""
        return "queries"

    @property
    def count(self) -> int:
        """How many queries there are."""
        return len(self.queries)

    @property
    def parts(self) -> Sequence[Part]:
        """What has to be embedded."""
        return [Part(self.queries, "query"), Part(self.documents, "document")]

    def without(self, failed: Sequence[set[int]]) -> Self:
        """Return the task without queries and documents that have no vector."""
        queries = kept(len(self.queries), failed[0]).tolist()
        documents = kept(len(self.documents), failed[1]).tolist()
        place = {before: now for now, before in enumerate(documents)}
        left = replace(
            self,
            queries=[self.queries[n] for n in queries],
            documents=[self.documents[n] for n in documents],
            relevant=[
                {place[n]: grade for n, grade in self.relevant[query].items() if n in place}
                for query in queries
            ],
        )
        return left._checked()

    def score(self, vectors: Sequence[Vectors]) -> Floats:
        """Return each query's nDCG and recall, [2, queries]."""
        queries, documents = vectors
        ranking = nearest(queries, documents, max(self.results, NDCG_RESULTS))
        gain = ndcg(ranking[:, :NDCG_RESULTS], self.relevant)
        return np.stack([gain, recall(ranking[:, : self.results], self.relevant)])

    def statistic(self, scores: Floats, sample: Indices) -> Floats:
        """Return the metrics' means over samples of queries, [..., metrics, samples]."""
        return np.asarray(scores[..., sample].mean(axis=-1))


def _grades(where: str, given: Any) -> dict[str, float]:
    """Return a line's grades by query. Raises DataError."""
    if isinstance(given, list) and all(isinstance(own, str | int) for own in given):
        return {str(own): 1.0 for own in given}
    if not isinstance(given, dict):
        raise DataError(f'{where}: "queries" is to be [id, ...] or {{id: grade, ...}}')
    for own, grade in given.items():
        if not isinstance(grade, int | float) or not math.isfinite(grade) or grade < 0:
            raise DataError(f"{where}: the grade of {own!r} is {grade!r}: give 0 or more")
    return {own: float(grade) for own, grade in given.items()}
