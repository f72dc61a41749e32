"""Metrics of similarity, classification and retrieval, by cosine.

Each gives a value an item, so that items can be drawn again for an interval; vectors
are float32 and have unit length.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from vecserve.evaluation.encodings import Vectors

_CHUNK_SCORES = 2**24
"""Scores that are held at a time: 64 MiB."""

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]


def spearman(one: npt.ArrayLike, other: npt.ArrayLike) -> Floats:
    """Return Spearman's rank correlation along the last axis; 0 where all values are equal."""
    # Here, not above: scipy is an extra, and slow to import.
    from scipy.stats import rankdata

    first, second = (rankdata(values, axis=-1) for values in (one, other))
    first = first - first.mean(axis=-1, keepdims=True)
    second = second - second.mean(axis=-1, keepdims=True)
    scale = np.sqrt((first**2).sum(axis=-1) * (second**2).sum(axis=-1))
    return np.asarray((first * second).sum(axis=-1) / np.where(scale > 0, scale, 1))


def nearest(queries: Vectors, documents: Vectors, top: int, *, themselves: bool = True) -> Indices:
    """Return the places of each query's `top` nearest documents, [queries, top], nearest first.

    Equally near ones, common among vectors of few bits, come in one order of chance,
    lest those that a file lists first win. Without `themselves`, query n is document n, and
    no neighbour of its own. `top` is at most the documents there are to choose from.
    """
    order = np.random.default_rng(0).permutation(len(documents))
    place = np.argsort(order)
    shuffled = documents[order].T
    step = max(1, _CHUNK_SCORES // len(documents))
    found = []
    for start in range(0, len(queries), step):
        scores = queries[start : start + step] @ shuffled
        rows = np.arange(len(scores))
        if not themselves:
            scores[rows, place[start + rows]] = -np.inf
        best = np.sort(np.argpartition(-scores, top - 1, axis=1)[:, :top], axis=1)
        by_score = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
        found.append(order[np.take_along_axis(best, by_score, axis=1)])
    return np.concatenate(found)


def votes(neighbours: Indices, labels: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the label that most of each row's neighbours have, [rows].

    Of labels with as many votes, the nearest neighbour's. `labels` is [items].
    """
    found = []
    for row in labels[neighbours]:
        names, first, counts = np.unique(row, return_index=True, return_counts=True)
        found.append(names[np.lexsort((first, -counts))[0]])
    return np.asarray(found, np.intp)


def recall(ranking: Indices, relevant: Sequence[Mapping[int, float]]) -> Floats:
    """Return the share of each query's relevant documents that its ranking holds, [queries]."""
    shares = [
        len(grades.keys() & row) / len(grades)
        for row, grades in zip(ranking.tolist(), relevant, strict=True)
    ]
    return np.asarray(shares)


def ndcg(ranking: Indices, relevant: Sequence[Mapping[int, float]]) -> Floats:
    """Return each query's normalized discounted cumulative gain, [queries].

    Grades are gains as they are, discounted by log2(rank + 1), as in trec_eval and BEIR
    (Järvelin and Kekäläinen, 2002); `relevant` has a query's grades by document.
    """
    discounts = 1 / np.log2(np.arange(2, ranking.shape[1] + 2))
    found = []
    for row, grades in zip(ranking.tolist(), relevant, strict=True):
        gains = np.array([grades.get(document, 0.0) for document in row])
        ideal = np.sort(list(grades.values()))[::-1][: len(row)]
        found.append(gains @ discounts / (ideal @ discounts[: len(ideal)]))
    return np.asarray(found)
