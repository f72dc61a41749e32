"""`vecserve compare`: pairs, labels and queries, from files to the sentence at the end."""

import csv
import json
import shutil
import subprocess
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import scipy.stats
import sklearn.metrics

from tests.support.vecserve_command import VecserveCommand
from vecserve import Client
from vecserve.evaluation.encodings import Encoding, bytes_of, smaller, unit

TEXT = "all-MiniLM-L6-v2"
UNTRAINED = "clip-vit-base-patch32"
IMAGE = "resnet-50"

ANIMALS = ["dog", "cat", "horse", "rabbit", "sheep", "cow"]
VEHICLES = ["car", "train", "lorry", "tram", "bus", "ship"]
# How alike: the same kind of thing, the same sentence in other words, or neither.
PAIRS = [
    *((f"A {one} is asleep.", f"The {one} sleeps.", "5") for one in (*ANIMALS, *VEHICLES)),
    *((f"A {a} is here.", f"A {b} is here.", "3.5") for a, b in pairwise(ANIMALS)),
    *((f"A {a} is here.", f"The {b} left.", "0") for a, b in zip(ANIMALS, VEHICLES, strict=True)),
]


class Command(VecserveCommand):
    def __call__(self, *arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        return self.run("compare", *arguments, code=code)

    def json(self, *arguments: str | Path, code: int = 0) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self(*arguments, "--json", code=code).stdout)
        return found

    def write_pairs(self, rows: Sequence[Sequence[str]], name: str = "pairs.csv") -> None:
        with (self.folder / name).open("w", newline="") as file:
            dialect = "excel-tab" if name.endswith(".tsv") else "excel"
            table = csv.writer(file, dialect)
            table.writerow(["sentence1", "sentence2", "score"])
            table.writerows(rows)

    def write_lines(self, name: str, rows: Sequence[object]) -> None:
        (self.folder / name).write_text("\n".join(map(json.dumps, rows)))


@pytest.fixture
def compare(server_address: str, tmp_path: Path) -> Command:
    return Command(server_address, tmp_path, COLUMNS="300")


def test_pairs_by_two_models_and_smaller_vectors(
    compare: Command, client: Client, tmp_path: Path
) -> None:
    compare.write_pairs(PAIRS)
    options = ("--pairs", "pairs.csv", "--dtype", "int8,binary", "--dimensions", "128,999")
    found = compare.json("-m", f"{TEXT},{UNTRAINED}", *options, "--plot", "plot.png")
    assert (found["cases"], found["of"]) == (len(PAIRS), "pairs")
    by_name = {own["name"]: own for own in found["candidates"]}
    assert len(by_name) == 2 * 2 * 3
    ours = [own for own in found["candidates"] if own["model"] == TEXT]
    assert [(own["dimensions"], own["bytes"]) for own in ours] == [
        *((384, 1536), (384, 384), (384, 48), (128, 512), (128, 128), (128, 16))
    ]
    assert all(own["items_s"] > 0 for own in ours)

    one, other = (client.embed(TEXT, [row[side] for row in PAIRS]) for side in (0, 1))
    gold = [float(row[2]) for row in PAIRS]
    expected = scipy.stats.spearmanr((one * other).sum(axis=1), gold).statistic
    spearman = by_name[TEXT]["metrics"]["Spearman"]
    assert spearman["value"] == pytest.approx(expected, abs=0.01)
    assert 0.3 < spearman["low"] < spearman["value"] < spearman["high"] < 1
    assert found["take"].startswith(TEXT)
    assert found["answer"].startswith(f"Take {found['take']}")
    with PIL.Image.open(tmp_path / "plot.png") as image:
        assert min(image.size) > 300

    done = compare("-m", f"{TEXT}, {UNTRAINED}", *options)
    assert f"UNTRAINED: {UNTRAINED} has random weights" in done.stderr
    assert f"note: {TEXT} was not trained to be cut to 128" in done.stderr
    assert f"note: {TEXT} gives 384 numbers, not 999" in done.stderr
    lines = done.stdout.strip().splitlines()
    assert lines[0] == f"{len(PAIRS)} pairs of pairs.csv; in brackets, intervals of 95%"
    assert f"{UNTRAINED} (128 of 512, binary) UNTRAINED" in done.stdout
    assert sum("the best" in line for line in lines[2:-1]) == 2  # the heading too
    assert lines[-1].startswith(f"Take {TEXT}")


@pytest.mark.parametrize("encoding", ["float32", "float16", "int8", "binary"])
def test_smaller_vectors_are_the_servers(client: Client, encoding: Encoding) -> None:
    texts = [row[0] for row in PAIRS]
    served = client.embed(TEXT, texts, dtype=encoding, dimensions=128, force_dimensions=True)
    ours = smaller(client.embed(TEXT, texts), 128, encoding)
    assert served.nbytes == len(texts) * bytes_of(128, encoding)
    if encoding == "binary":
        served = np.unpackbits(served, axis=1) * 2.0 - 1
    # Rows differ in their last bits from batch to batch, and then at times by one of 127 steps.
    np.testing.assert_allclose(unit(served.astype(np.float32)), ours, atol=2e-3)


def write_labels(folder: Path) -> None:
    for name, things in (("animals", ANIMALS), ("vehicles", VEHICLES)):
        below = folder / name / "more"
        below.mkdir(parents=True)
        for thing in things:
            (below / f"{thing}.txt").write_text(f"A {thing} is here.")


def test_labels_by_the_nearest_neighbour(compare: Command, client: Client, tmp_path: Path) -> None:
    write_labels(tmp_path / "labels")
    (tmp_path / "labels" / "lone").mkdir()
    (tmp_path / "labels" / "lone" / "lone.txt").write_text("Shares fell.")
    (tmp_path / "labels" / "outside.txt").write_text("In no folder.")
    (tmp_path / "labels" / "animals" / "broken.txt").write_bytes(b"\xff\xfe")
    done = compare("-m", TEXT, "--labels", "labels", "-k", "3", "--plot", "plot.svg", code=1)
    assert "failed: labels/animals/broken.txt: " in done.stderr
    assert "left out, as they are in no folder of labels: 1 files" in done.stderr
    assert "classes of one file, which no other can tell: lone" in done.stderr
    assert "12 files of labels" in done.stdout
    assert "</svg>" in (tmp_path / "plot.svg").read_text()

    found = compare.json("-m", TEXT, "--labels", "labels", "-k", "3", code=1)
    [own] = found["candidates"]
    texts = [f"A {thing} is here." for thing in (*ANIMALS, *VEHICLES)]
    rows = client.embed(TEXT, [*texts, "Shares fell."])
    labels = np.array([0] * 6 + [1] * 6 + [2])
    cosines = rows @ rows.T
    np.fill_diagonal(cosines, -1)
    nearest = np.argsort(-cosines, axis=1)[:12, :3]
    majority = [np.bincount(labels[row]).argmax() for row in nearest]
    accuracy = own["metrics"]["accuracy of the 3 nearest neighbours"]["value"]
    assert accuracy == pytest.approx(np.mean(majority == labels[:12]))
    assert "there is no other trained embedding" in found["answer"]


def test_queries_by_what_is_relevant(compare: Command, client: Client) -> None:
    things = [*ANIMALS, *VEHICLES]
    queries = [{"id": n, "text": f"Where is the {thing}?"} for n, thing in enumerate(things)]
    documents: list[dict[str, object]] = []
    for number, thing in enumerate(things):
        documents.append({"text": f"The {thing} is in the yard.", "queries": {str(number): 2}})
        documents.append({"text": f"There were {number + 2} {thing}s.", "queries": [number]})
        documents.append({"text": f"Rain fell on day {number}."})
    compare.write_lines("q.jsonl", [*queries, {"id": "none", "text": "Why?"}])
    compare.write_lines("r.jsonl", documents)
    data = ("--queries", "q.jsonl", "--relevant", "r.jsonl")
    done = compare("-m", TEXT, *data)
    assert "note: left out, as no document answers them: 1 queries" in done.stderr
    assert "recall@10" in done.stdout

    [own] = compare.json("-m", TEXT, *data, "-k", "2")["candidates"]
    asked = client.embed(TEXT, [str(query["text"]) for query in queries])
    scores = asked @ client.embed(TEXT, [str(own["text"]) for own in documents]).T
    grades = np.zeros((12, 36))
    for number in range(12):
        grades[number, 3 * number : 3 * number + 2] = (2, 1)
    assert own["metrics"]["nDCG@10"]["value"] == pytest.approx(
        sklearn.metrics.ndcg_score(grades, scores, k=10), abs=0.01
    )
    top = np.argsort(-scores, axis=1)[:, :2]
    recall = np.mean([(grades[n, row] > 0).sum() / 2 for n, row in enumerate(top)])
    assert own["metrics"]["recall@2"]["value"] == pytest.approx(recall, abs=0.05)


def test_photos_in_a_file_of_pairs(compare: Command, photo: Path, tmp_path: Path) -> None:
    for path in photo.parent.glob("*.jpg"):
        shutil.copy(path, tmp_path)
    names = sorted(path.name for path in tmp_path.glob("*.jpg"))
    rows = [(one, other, "1" if one == other else "0") for one in names for other in names]
    compare.write_pairs(rows, "photos.tsv")
    [own] = compare.json("-m", IMAGE, "--pairs", "photos.tsv")["candidates"]
    # Each photo is nearest to itself: as high as five ties among 25 pairs let it be.
    scores = [float(row[2]) for row in rows]
    highest = scipy.stats.spearmanr(scores, np.arange(25) + 100 * np.array(scores)).statistic
    assert own["metrics"]["Spearman"]["value"] > highest - 0.1
    compare.write_pairs([*rows, ("gone.jpg", names[0], "0")], "photos.tsv")
    done = compare("-m", IMAGE, "--pairs", "photos.tsv", code=1)
    assert "photos.tsv, line 27: there is no file gone.jpg" in done.stderr


def test_data_that_tells_nothing_is_refused_by_line(compare: Command, tmp_path: Path) -> None:
    def refusal(*arguments: str) -> str:
        return compare("-m", TEXT, *arguments, code=1).stderr

    pairs = ("--pairs", "pairs.csv")
    assert "cannot read pairs.csv: No such file" in refusal(*pairs)
    (tmp_path / "pairs.csv").write_text("text,sentence2,gold\na,b,1\n")
    message = refusal(*pairs)
    assert "pairs.csv has no column sentence1 or score" in message
    assert "it has 'text', 'sentence2', 'gold'" in message
    compare.write_pairs([("a", "b", "1"), ("a", "b", "much")])
    assert "pairs.csv, line 3: the score 'much' is no number" in refusal(*pairs)
    compare.write_pairs([("a", "", "1")])
    assert "pairs.csv, line 2: sentence2 is empty" in refusal(*pairs)
    compare.write_pairs(PAIRS[:9])
    assert "pairs.csv has 9 pairs: give 10 or more" in refusal(*pairs)
    compare.write_pairs([("a", "b", "4")] * 10)
    assert "every score is 4" in refusal(*pairs)
    (tmp_path / "pairs.csv").write_bytes(b"\xff")
    assert "cannot read pairs.csv: " in refusal(*pairs)

    labels = ("--labels", "labels")
    (tmp_path / "labels").mkdir()
    assert "labels has no folders of files that every model takes" in refusal(*labels)
    write_labels(tmp_path / "labels")
    assert "12 neighbours of one cannot be had" in refusal(*labels, "-k", "12")
    shutil.rmtree(tmp_path / "labels" / "vehicles")
    assert "labels has one class only, 'animals'" in refusal(*labels)

    data = ("--queries", "q.jsonl", "--relevant", "r.jsonl")
    queries = [{"id": f"q{n}", "text": f"What is {n}?"} for n in range(10)]
    documents = [{"text": f"It is {n}.", "queries": [f"q{n % 10}"]} for n in range(30)]
    compare.write_lines("r.jsonl", documents)
    for bad, says in (
        ([{"text": "a"}], 'q.jsonl, line 1: give an "id"'),
        ([{"id": 1, "text": "a"}, {"id": "1", "text": "b"}], "line 2: the id '1' is there twice"),
        ([{"id": 1, "text": 5}], 'line 1: give a string as "text" or as "path"'),
        ([{"id": 1, "path": "gone.txt"}], "line 1: there is no file gone.txt"),
        (["a"], "line 1: not an object"),
    ):
        compare.write_lines("q.jsonl", bad)
        assert says in refusal(*data)
    (tmp_path / "q.jsonl").write_text("{")
    assert "q.jsonl, line 1: no JSON" in refusal(*data)
    compare.write_lines("q.jsonl", queries)
    for own, says in (
        (["q77"], "r.jsonl, line 31: 'q77' is the id of no query in q.jsonl"),
        ("q1", '"queries" is to be [id, ...] or {id: grade, ...}'),
        ({"q1": -1}, "the grade of 'q1' is -1: give 0 or more"),
    ):
        compare.write_lines("r.jsonl", [*documents, {"text": "a", "queries": own}])
        assert says in refusal(*data)
    compare.write_lines("r.jsonl", documents[:10])
    assert "there are 10 documents, and recall counts 10" in refusal(*data)
    # A model that takes nothing of it: the first failures are named, and the rest counted.
    compare.write_lines("r.jsonl", documents)
    lines = compare("-m", IMAGE, *data, code=1).stderr.splitlines()
    assert sum(line.startswith("failed: ") for line in lines) == 21
    assert f"failed: and 20 more by {IMAGE}" in lines
    compare.write_lines("r.jsonl", [{"text": f"It is {n}."} for n in range(30)])
    assert "has 0 queries that a document answers: give 10 or more" in refusal(*data)
    assert "this server has" in refusal("-m", "no-such-model", *data)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "give one of --pairs, --labels, or --queries with --relevant"),
        (["--pairs", "a.csv", "--labels", "b"], "give one of --pairs"),
        (["--queries", "a.jsonl"], "belong together"),
        (["--pairs", "a.csv", "-k", "3"], "neither neighbours nor results"),
        (["--labels", "gone"], "there is no folder gone"),
        (["--pairs", "a.csv", "--dtype", "int4"], "'int4' is none of float32, float16, int8"),
        (["--pairs", "a.csv", "--dimensions", "0"], "'0' is no number from 1"),
        (["--pairs", "a.csv", "--plot", "plot.txt"], "must end in .png or .svg"),
        (["--pairs", "a.csv", "--plot", "gone/plot.png"], "there is no folder gone"),
        (["--pairs", "a.csv", "--input-type", "query"], "no model lists a prompt 'query'"),
        (["--pairs", "a.csv", "-m", " , "], "name one or more"),
    ],
)
def test_wrong_usage(compare: Command, arguments: list[str], says: str) -> None:
    done = compare("-m", TEXT, *arguments, code=2)
    assert says in " ".join(done.stderr.replace("│", " ").split())
