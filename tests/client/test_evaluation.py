"""Metrics and intervals of `vecserve compare`, beside scikit-learn's and SciPy's; its answers."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
import sklearn.model_selection
import sklearn.neighbors

from vecserve.evaluation.answer import answer, choose
from vecserve.evaluation.encodings import Vectors, unit
from vecserve.evaluation.intervals import Candidate, Estimate, Outcome, compare
from vecserve.evaluation.metrics import Floats, ndcg, nearest, recall, spearman, votes
from vecserve.evaluation.pairs import Pairs

RNG = np.random.default_rng(7)


def vectors(count: int, dimensions: int = 8) -> Vectors:
    return unit(RNG.normal(size=(count, dimensions)).astype(np.float32))


def test_spearman_with_ties_is_scipys() -> None:
    one = RNG.integers(0, 6, size=(5, 40))
    other = one + RNG.normal(scale=2, size=(5, 40)).round()
    expected = [scipy.stats.spearmanr(*pair).statistic for pair in zip(one, other, strict=True)]
    np.testing.assert_allclose(spearman(one, other), expected, atol=1e-12)
    assert spearman([1, 1, 1], [1, 2, 3]) == 0


@pytest.mark.parametrize("neighbours", [1, 3, 7])
def test_votes_of_neighbours_are_scikit_learns(neighbours: int) -> None:
    points = vectors(90)
    labels = (points[:, 0] > 0).astype(np.intp)
    found = votes(nearest(points, points, neighbours, themselves=False), labels)
    expected = sklearn.model_selection.cross_val_predict(
        sklearn.neighbors.KNeighborsClassifier(neighbours, metric="cosine"),
        points,
        labels,
        cv=sklearn.model_selection.LeaveOneOut(),
    )
    assert 0.6 < (found == labels).mean() < 1
    np.testing.assert_array_equal(found, expected)


def test_of_labels_with_as_many_votes_the_nearest_ones_wins() -> None:
    labels = np.array([5, 3, 3, 5, 4])
    assert votes(
        np.array([[0, 1, 2, 3, 4], [1, 0, 2, 3, 4], [4, 0, 1, 3, 2]]), labels
    ).tolist() == [*(5, 3, 5)]


def test_ndcg_and_recall_are_scikit_learns() -> None:
    queries, documents = vectors(30), vectors(200)
    grades = RNG.choice([0, 0, 0, 0, 1, 2, 3], size=(30, 200))
    grades[:, 0] = 1
    relevant = [{int(n): float(row[n]) for n in np.flatnonzero(row)} for row in grades]
    ranking = nearest(queries, documents, 10)
    scores = queries @ documents.T
    np.testing.assert_array_equal(ranking, np.argsort(-scores, axis=1)[:, :10])
    expected = [
        sklearn.metrics.ndcg_score([row], [own], k=10)
        for row, own in zip(grades, scores, strict=True)
    ]
    np.testing.assert_allclose(ndcg(ranking, relevant), expected, atol=1e-6)
    found = [
        sklearn.metrics.recall_score(row > 0, np.isin(np.arange(200), top))
        for row, top in zip(grades, ranking, strict=True)
    ]
    np.testing.assert_allclose(recall(ranking, relevant), found)
    # One that answers and is third: 1 / log2(4).
    assert ndcg(np.array([[4, 2, 9]]), [{9: 1.0}]) == pytest.approx(0.5)


def test_equally_near_documents_do_not_win_by_their_place() -> None:
    same = unit(np.ones((100, 4), np.float32))
    ranking = nearest(same[:1], same, 10)
    assert len(set(ranking[0].tolist())) == 10
    assert ranking.max() > 50


def outcome(
    model: str, value: float, behind: tuple[float, float, float] | None, **form: object
) -> Outcome:
    candidate = Candidate(model, "1", True, 384, 384, "float32", 1536, 200.0)
    candidate = replace(candidate, **form)  # type: ignore[arg-type]
    metric = Estimate(value, value - 0.02, value + 0.02)
    return Outcome(candidate, (metric,), Estimate(*behind) if behind else None)


def pairs(gold: Sequence[float] | Floats) -> Pairs:
    return Pairs("sts.csv", [], np.zeros((len(gold), 2), np.intp), np.asarray(gold, float))


def test_intervals_and_paired_differences_are_scipys() -> None:
    gold = RNG.normal(size=300)
    scores: list[Floats] = [(gold + RNG.normal(scale=s, size=300))[np.newaxis] for s in (0.6, 0.9)]
    names = [outcome(name, 0, None).candidate for name in "ab"]
    first, second = compare(pairs(gold), names, scores)
    for own, values in zip((first, second), scores, strict=True):
        expected = scipy.stats.bootstrap(
            (gold, values[0]),
            lambda x, y, axis=-1: spearman(x, y),
            paired=True,
            method="percentile",
            n_resamples=4000,
            rng=1,
        ).confidence_interval
        assert (own.metrics[0].low, own.metrics[0].high) == pytest.approx(tuple(expected), abs=0.01)
    assert first.behind is None
    assert second.behind is not None
    expected = scipy.stats.bootstrap(
        (gold, scores[0][0], scores[1][0]),
        lambda g, x, y, axis=-1: spearman(g, x) - spearman(g, y),
        paired=True,
        method="percentile",
        n_resamples=4000,
        rng=1,
    ).confidence_interval
    assert (second.behind.low, second.behind.high) == pytest.approx(tuple(expected), abs=0.01)
    # Narrower than the values' own: the samples are the same.
    widths = [own.metrics[0].high - own.metrics[0].low for own in (first, second)]
    assert second.behind.high - second.behind.low < sum(widths)

    # The more there are to be compared, the wider; an untrained one is never the best.
    untrained = replace(names[0], trained=False)
    many = compare(
        pairs(gold), [*names, names[1], untrained], [*scores, scores[1], gold[np.newaxis]]
    )
    assert many[0].behind is None
    assert many[1].behind is not None
    assert many[1].behind.low < second.behind.low
    assert many[3].behind is not None
    assert many[3].behind.high < 0


@pytest.mark.parametrize(
    ("outcomes", "take", "says"),
    [
        (
            [outcome("a", 0.8, None), outcome("b", 0.7, (0.1, 0.05, 0.15), bytes=96)],
            "a",
            "its Spearman 0.800 (0.780 to 0.820) is the highest, and the next, b, is 0.100 (0.050 "
            "to 0.150) behind; it takes 1,536 bytes a vector instead of 96 and embeds 200 items/s "
            "instead of 200.",
        ),
        (
            [outcome("a", 0.8, None), outcome("b", 0.79, (0.01, -0.01, 0.03), bytes=96)],
            "b",
            "do not tell it from the best, a (0.800), which it is 0.010 (-0.010 to 0.030) behind "
            "(more pairs would tell more), and it takes 96 bytes a vector instead of 1,536",
        ),
        (
            [outcome("a", 0.8, None), outcome("b", 0.8, (0.0, -0.0001, 0.0001), bytes=384)],
            "b",
            "a (0.800), which it is 0.000 (0.000 to 0.000) behind, and it takes 384 bytes",
        ),
        (
            [outcome("a", 0.8, None), outcome("b", 0.79, (0.01, -0.01, 0.03), items_s=900.0)],
            "b",
            "it takes 1,536 bytes a vector and embeds 900 items/s instead of 200.",
        ),
        (
            [outcome("a", 0.8, None, bytes=96), outcome("b", 0.79, (0.01, -0.01, 0.03))],
            "a",
            "do not tell it from b (the next, b, is 0.010 (-0.010 to 0.030) behind), and of these "
            "it has the smallest vectors",
        ),
        (
            [outcome("a", 0.8, None), outcome("b", 0.9, (-0.1, -0.2, 0.0), trained=False)],
            "a",
            "no other trained embedding",
        ),
        ([outcome("a", 0.8, None, trained=False)], None, "Take none of these"),
    ],
)
def test_what_to_take(outcomes: list[Outcome], take: str | None, says: str) -> None:
    chosen = choose(outcomes)
    assert (chosen and chosen.candidate.model) == take
    sentence = answer(pairs([1, 2]), outcomes)
    assert says in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence
