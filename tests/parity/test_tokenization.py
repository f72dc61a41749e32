"""The text pipeline gives the very tokens of the Hugging Face tokenizers.

The reference takes only the vocabulary from the bundle; normalisation,
splitting, special tokens and truncation are transformers' own.
"""

import csv
import json
from pathlib import Path

import pytest
from transformers import BertTokenizer, CLIPTokenizer, PreTrainedTokenizerBase

from tests.support.testdata import sts_test
from vecserve_server.modalities.content import Limits
from vecserve_server.modalities.text import Text, TextModality
from vecserve_server.repository.manifest import TextInput

ODD_TEXTS = [
    "",
    " ",
    "\t\n\r\n",
    "Hello, World!",
    "hello  world " * 3,
    "naïve café Ångström ﬁ №",
    "e\u0301 and é; \u1e9b\u0323; İstanbul ẞ ǅ",
    "你好，世界。東京タワー 안녕하세요",  # noqa: RUF001
    "Привет мир! Γειά σου Κόσμε. שלום עולם مرحبا بالعالم नमस्ते दुनिया สวัสดี",  # noqa: RUF001
    "😀 👩‍👩‍👧‍👦 🇩🇪 👍🏽 ☃️",
    "zero\u200bwidth\u200djoiner\ufeffbom\u00adsoft",
    "control\x00\x01\x02\x7f\x85chars\u2028line\u2029para",
    "replacement \ufffd private \ue000 last \U0010ffff",
    "it's don't I'LL we've 3.14159 1,000,000 C++ a_b x=y https://example.org/a?b=c#d",
    "[CLS] [SEP] [MASK] [PAD] [UNK] <|endoftext|> <|startoftext|>",
    "a" * 99,
    "a" * 101,
    "supercalifragilisticexpialidocious" * 20,
    "!?.,;:" * 100,
]
# Around every limit of both models: 77 and 256 tokens, 2 of them special.
LENGTHS = [74, 75, 76, 77, 78, 253, 254, 255, 256, 257, 600, 5000]


def bundled(folder: Path) -> tuple[TextModality, PreTrainedTokenizerBase, int]:
    """Return the pipeline, the reference and the model's most tokens."""
    manifest = json.loads((folder / "manifest.json").read_text())
    (spec,) = (
        TextInput(**tower["input"])
        for tower in manifest["towers"]
        if tower["input"]["kind"] == "text"
    )
    model = json.loads((folder / spec.tokenizer).read_text())["model"]
    reference: PreTrainedTokenizerBase
    if model["type"] == "WordPiece":
        reference = BertTokenizer(vocab=model["vocab"])
    else:
        merges = [tuple(merge) for merge in model["merges"]]
        reference = CLIPTokenizer(vocab=model["vocab"], merges=merges)
    return TextModality(spec, folder, Limits()), reference, spec.max_tokens


@pytest.mark.parametrize("name", ["all-MiniLM-L6-v2", "clip-vit-base-patch32"])
def test_tokens_and_truncation(repository: Path, name: str) -> None:
    pipeline, reference, max_tokens = bundled(repository / name / "1")
    with sts_test().open(newline="") as file:
        rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        sentences = [sentence for row in rows for sentence in row[5:7]]
    long = [" ".join((sentences * 3)[:5000]).split(" ")[:length] for length in LENGTHS]
    repeated = ["dog " * length for length in LENGTHS]
    for text in ODD_TEXTS + sentences + [" ".join(words) for words in long] + repeated:
        expected = reference(text, truncation=True, max_length=max_tokens)
        whole = len(reference(text, truncation=False, verbose=False)["input_ids"])
        prepared = pipeline.prepare(Text(text), refuse_truncation=False)
        (row,) = prepared.rows
        assert row.feeds["input_ids"].tolist() == expected["input_ids"], repr(text[:80])
        assert row.feeds["attention_mask"].tolist() == expected["attention_mask"]
        assert prepared.truncated == (whole > max_tokens)
        assert prepared.token_count == len(expected["input_ids"])
