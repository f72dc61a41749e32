"""CLIP's tokenizer, built from OpenAI's merges, against OpenAI's algorithm."""

import unicodedata
from pathlib import Path

import pytest
from tokenizers import Tokenizer

START, END = 49406, 49407


@pytest.fixture(scope="module")
def tokenizer(repository: Path) -> Tokenizer:
    return Tokenizer.from_file(str(repository / "clip-vit-base-patch32" / "1" / "tokenizer.json"))


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        # As openai/CLIP's README and tests have them.
        ("a diagram", [320, 22697]),
        ("a dog", [320, 1929]),
        ("a cat", [320, 2368]),
        ("hello world!", [3306, 1002, 256]),
        ("", []),
    ],
)
def test_known_ids(text: str, ids: list[int], tokenizer: Tokenizer) -> None:
    assert tokenizer.encode(text).ids == [START, *ids, END]


@pytest.mark.parametrize(
    ("text", "same_as"),
    [
        ("A Photo OF a CAT", "a photo of a cat"),
        ("  a\tphoto \n\n of a cat ", "a photo of a cat"),
        (unicodedata.normalize("NFD", "café ÉTÉ"), "café été"),
    ],
)
def test_case_whitespace_and_accents_are_cleaned(
    text: str, same_as: str, tokenizer: Tokenizer
) -> None:
    assert tokenizer.encode(text).ids == tokenizer.encode(same_as).ids
