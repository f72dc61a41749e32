"""`vecserve similarity`: the matrix as a table, JSON, a picture and a page."""

import json
import re
import subprocess
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from tests.support.vecserve_command import VecserveCommand
from vecserve import Client

TEXT = "all-MiniLM-L6-v2"
TEXT_AND_IMAGE = "clip-vit-base-patch32"
SENTENCES = ["A cat sleeps.", "A kitten naps.", "A train costs $5 or $7.", "Share prices fell."]


class Command(VecserveCommand):
    def __call__(self, *arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        return self.run("similarity", *arguments, code=code)


@pytest.fixture
def similarity(server_address: str, tmp_path: Path) -> Command:
    return Command(server_address, tmp_path)


def test_the_cosine_of_each_text_with_each(similarity: Command, client: Client) -> None:
    found = json.loads(similarity(*SENTENCES, "-m", TEXT, "--json").stdout)
    vectors = client.embed(TEXT, SENTENCES)
    assert (found["model"], found["items"]) == (TEXT, SENTENCES)
    np.testing.assert_allclose(found["cosine"], vectors @ vectors.T, atol=1e-5)
    assert found["cosine"][0][1] > 0.5 > found["cosine"][0][3]

    table = similarity(*SENTENCES, "-m", TEXT).stdout.splitlines()
    assert len(table) == 1 + len(SENTENCES)
    for number, (line, row) in enumerate(zip(table[1:], found["cosine"], strict=True), 1):
        assert line.split()[0] == str(number)
        assert line.split()[-4:] == [f"{cosine:.2f}" for cosine in row]


def test_options_of_a_vector(similarity: Command, client: Client) -> None:
    arguments = ("--dimensions", "64", "--prompt", "query: ", "--json")
    done = similarity(*SENTENCES, "-m", TEXT, *arguments, code=1)
    assert "64" in done.stderr  # not trained for it
    found = json.loads(similarity(*SENTENCES, "-m", TEXT, *arguments[2:]).stdout)
    vectors = client.embed(TEXT, SENTENCES, prompt="query: ")
    np.testing.assert_allclose(found["cosine"], vectors @ vectors.T, atol=1e-5)


def test_a_text_beside_photos_as_a_picture_and_a_page(
    similarity: Command, photo: Path, tmp_path: Path
) -> None:
    items: list[str | Path] = ["a <b>dog</b>", photo, photo.with_name("strawberries.jpg")]
    done = similarity(*items, "-m", TEXT_AND_IMAGE, "--png", "map.png", "--html", "map.html")
    assert "picture: map.png" in done.stderr
    with PIL.Image.open(tmp_path / "map.png") as image:
        assert min(image.size) > 200
        # The grey of the diagonal, white for the smallest cosine, blue for the largest.
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    assert {(221, 221, 221), (255, 255, 255), (0, 114, 178)} <= set(map(tuple, pixels.tolist()))
    page = (tmp_path / "map.html").read_text()
    assert "a &lt;b&gt;dog&lt;/b&gt;" in page
    assert page.count('src="data:image/jpeg;base64,') == 2
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert page.count("rgb(221 221 221)") == 3


def test_cosines_that_hardly_differ_have_hardly_different_colours(
    similarity: Command, tmp_path: Path
) -> None:
    similarity("A cat", "A cat", "A cat", "-m", TEXT, "--html", "map.html")
    page = (tmp_path / "map.html").read_text()
    middles = re.findall(r"rgb\((\d+) (\d+) (\d+)\)", page)
    others = {tuple(map(int, colour)) for colour in middles} - {(221, 221, 221)}
    assert all(110 < red < 150 for red, _, _ in others)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["A cat"], "two or more"),
        (["a"] * 101, "100 at the most"),
        (["A cat", "gone.jpg"], "there is no file gone.jpg"),
        (["A cat", "./"], "name its files"),
        (["A cat", "A dog", "--png", "gone/map.png"], "there is no folder gone"),
        (["A cat", "A dog", "--prompt", "a", "--input-type", "b"], "give one of them"),
    ],
)
def test_wrong_usage(similarity: Command, arguments: list[str], says: str) -> None:
    done = similarity(*arguments, "-m", TEXT, code=2)
    assert says in " ".join(done.stderr.replace("│", " ").split())


def test_an_item_that_fails_is_named(similarity: Command, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_text("no photo")
    done = similarity("A cat", "broken.jpg", "-m", TEXT_AND_IMAGE, code=1)
    assert "1 of 2 items failed" in done.stderr
    assert "broken.jpg" in done.stderr
