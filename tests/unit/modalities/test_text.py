"""TextModality: limits, truncation, threads."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from vecserve_server.errors import InvalidItem
from vecserve_server.modalities.content import Limits
from vecserve_server.modalities.text import Text, TextModality
from vecserve_server.repository.manifest import TextInput

CLS, SEP, UNKNOWN, ONE, TWO = 1, 2, 3, 4, 5
MAX_TOKENS = 6


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle folder with a tokenizer of two words, saved with settings that must not count."""
    vocabulary = {"[PAD]": 0, "[CLS]": CLS, "[SEP]": SEP, "?": UNKNOWN, "one": ONE, "two": TWO}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", SEP), ("[CLS]", CLS))
    tokenizer.enable_padding(length=50)
    tokenizer.enable_truncation(3)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


@pytest.fixture
def pipeline(bundle: Path) -> TextModality:
    spec = TextInput(tokenizer="tokenizer.json", max_tokens=MAX_TOKENS, pad_id=0)
    return TextModality(spec, bundle, Limits(max_text_bytes=1000))


def ids(pipeline: TextModality, text: str) -> list[int]:
    (row,) = pipeline.prepare(Text(text), refuse_truncation=False).rows
    return [int(token) for token in row.feeds["input_ids"]]


def test_a_text_is_one_row_of_its_own_length(pipeline: TextModality) -> None:
    prepared = pipeline.prepare(Text("One two three"), refuse_truncation=True)
    (row,) = prepared.rows
    assert {name: array.dtype for name, array in row.feeds.items()} == {
        "input_ids": np.int64,
        "attention_mask": np.int64,
    }
    assert row.feeds["input_ids"].tolist() == [CLS, ONE, TWO, UNKNOWN, SEP]
    assert row.feeds["attention_mask"].tolist() == [1] * 5
    assert (row.positions, prepared.token_count, prepared.truncated) == (5, 5, False)
    assert row.span is None


def test_a_byte_order_mark_is_no_part_of_a_text(pipeline: TextModality) -> None:
    marked = TextModality.fields["text"]("\ufeffone two")
    assert marked == TextModality.from_bytes("\ufeffone two".encode()) == Text("one two")
    assert TextModality.from_bytes("one \ufefftwo".encode()) == Text("one \ufefftwo")


def test_bytes_that_are_no_utf8_say_what_they_are() -> None:
    with pytest.raises(InvalidItem, match="the text is UTF-16: encode it as UTF-8"):
        TextModality.from_bytes("one".encode("utf-16"))
    with pytest.raises(InvalidItem, match="the text is not UTF-8: ") as raised:
        TextModality.from_bytes("née".encode("latin-1"))
    assert raised.value.reason == "NOT_UTF8"


def test_an_empty_text_is_its_special_tokens(pipeline: TextModality) -> None:
    assert ids(pipeline, "") == [CLS, SEP]


def test_a_text_of_exactly_the_limit_is_whole(pipeline: TextModality) -> None:
    prepared = pipeline.prepare(Text("one two one two"), refuse_truncation=True)
    assert (prepared.token_count, prepared.truncated) == (MAX_TOKENS, False)


def test_the_end_of_a_long_text_is_left_out_but_not_the_last_special_token(
    pipeline: TextModality,
) -> None:
    prepared = pipeline.prepare(Text("one two one two two"), refuse_truncation=False)
    (row,) = prepared.rows
    assert row.feeds["input_ids"].tolist() == [CLS, ONE, TWO, ONE, TWO, SEP]
    assert (prepared.token_count, prepared.truncated) == (MAX_TOKENS, True)


@pytest.mark.parametrize("words", [5, 8, 9, 12])
def test_a_refused_text_is_told_its_length(pipeline: TextModality, words: int) -> None:
    with pytest.raises(InvalidItem) as raised:
        pipeline.prepare(Text("one " * words), refuse_truncation=True)
    assert raised.value.reason == "TEXT_TOO_LONG"
    assert raised.value.message == (
        f"text has {words + 2} tokens, the model takes 6; shorten it or ask for TRUNCATION_END"
    )


def test_the_limit_is_in_bytes_of_utf8(pipeline: TextModality) -> None:
    assert ids(pipeline, "é" * 500) == [CLS, UNKNOWN, SEP]
    with pytest.raises(InvalidItem, match=r"1002 bytes.*1000") as raised:
        pipeline.prepare(Text("é" * 501), refuse_truncation=False)
    assert raised.value.reason == "TEXT_TOO_LARGE"


def test_a_hundred_thousand_words(bundle: Path) -> None:
    spec = TextInput(tokenizer="tokenizer.json", max_tokens=MAX_TOKENS, pad_id=0)
    pipeline = TextModality(spec, bundle, Limits())
    text = Text("one two " * 50_000)
    assert pipeline.prepare(text, refuse_truncation=False).truncated
    with pytest.raises(InvalidItem, match="text has 100002 tokens"):
        pipeline.prepare(text, refuse_truncation=True)


def test_threads_that_truncate_and_refuse_do_not_disturb_each_other(
    pipeline: TextModality,
) -> None:
    def prepare(index: int) -> tuple[int, bool] | str:
        text = Text("one " * (index % 9))
        try:
            prepared = pipeline.prepare(text, refuse_truncation=index % 2 == 0)
        except InvalidItem as error:
            return error.reason
        return prepared.token_count, prepared.truncated

    alone = [prepare(index) for index in range(2000)]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(prepare, range(2000))) == alone
    assert {"TEXT_TOO_LONG", (MAX_TOKENS, True), (2, False)} <= set(alone)
