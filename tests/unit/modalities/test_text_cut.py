"""Cutting before tokenizing: the tokens before each safe cut are those of the whole text."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from vecserve_server.errors import InvalidItem
from vecserve_server.modalities.content import Limits
from vecserve_server.modalities.text import Text, TextModality
from vecserve_server.modalities.text_cut import safe_cut
from vecserve_server.repository.manifest import TextInput

# Words, and all that a tokenizer may treat specially, at the edges of words above all.
WORDS = (
    "the cat sat on a mat don't we'll I'm Straße naïve cafe\u0301 ΣΟΦΟΣ İstanbul 中文 日本 ภาษา "
    "한국 क्षि ﬁ 123 4,567.89 C++ a_b --- ... (x) [SEP] [MASK] <mask> <s> </s> <|endoftext|> "
    "`` '' €5 №3 ▁ ǅ"
)
ODD = "\u0600\u200b\u200d\ufe0f\u0301\u0345\x00\x1f\u00ad\ufffd\U00011f02"
PIECES = [*WORDS.split(" "), *ODD, "\U0001f469\u200d\U0001f4bb", "\u1112\u1161\u11ab"]
GAPS = [
    "",
    " ",
    " ",
    " ",
    "  ",
    "   ",
    "\n",
    "\r\n",
    " \n",
    "\t",
    "\u00a0",
    "\u3000",
    "\u2028",
    "    \n ",
]
QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CLIP = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)
WORDS_THEN_MARKS = pre_tokenizers.Sequence(
    [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
)


def texts(seed: int, count: int, length: int = 40) -> list[str]:
    rng = random.Random(seed)
    return [
        "".join(rng.choice(PIECES) + rng.choice(GAPS) for _ in range(rng.randrange(1, length)))
        for _ in range(count)
    ]


def trained(
    model: str,
    normalizer: normalizers.Normalizer | None,
    pre_tokenizer: pre_tokenizers.PreTokenizer | None,
    *added: AddedToken | str,
) -> Tokenizer:
    """A tokenizer that has learned from texts like those it is tried on."""
    specials = ["[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer: trainers.Trainer
    if model == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        trainer = trainers.WordPieceTrainer(vocab_size=400, special_tokens=specials)
    elif model == "unigram":
        tokenizer = Tokenizer(models.Unigram())
        trainer = trainers.UnigramTrainer(
            vocab_size=300, special_tokens=specials, unk_token="[UNK]", show_progress=False
        )
    else:
        tokenizer = Tokenizer(models.BPE(unk_token="[UNK]", fuse_unk=True))
        trainer = trainers.BpeTrainer(
            vocab_size=600,
            special_tokens=specials,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.train_from_iterator(texts(1, 200), trainer)
    tokenizer.add_tokens(list(added))
    return tokenizer


def bert(**options: bool) -> Tokenizer:
    return trained(
        "wordpiece", normalizers.BertNormalizer(**options), pre_tokenizers.BertPreTokenizer()
    )


FAMILIES: dict[str, Callable[[], Tokenizer]] = {
    "bert": bert,
    "bert cased": lambda: bert(lowercase=False),
    "bert without chinese": lambda: bert(handle_chinese_chars=False, strip_accents=True),
    "mpnet": lambda: trained(
        "wordpiece",
        normalizers.BertNormalizer(),
        pre_tokenizers.BertPreTokenizer(),
        AddedToken("<mask>", lstrip=True, normalized=False),
    ),
    "roberta": lambda: trained(
        "bpe",
        None,
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        AddedToken("<mask>", lstrip=True),
    ),
    "gpt2 with a space before": lambda: trained("bpe", None, pre_tokenizers.ByteLevel()),
    "modernbert": lambda: trained(
        "bpe",
        normalizers.NFC(),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        *(" " * count for count in range(2, 6)),
        AddedToken("the", single_word=True),
        AddedToken("sat", rstrip=True),
    ),
    "clip": lambda: trained(
        "bpe",
        normalizers.Sequence(
            [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
        ),
        pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(CLIP), "removed", invert=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
            ]
        ),
        "<|endoftext|>",
    ),
    "qwen": lambda: trained(
        "bpe",
        normalizers.NFC(),
        pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(QWEN), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        ),
    ),
    "xlm-roberta": lambda: trained(
        "unigram", None, WORDS_THEN_MARKS, AddedToken("<mask>", lstrip=True)
    ),
    "xlm-roberta of the hub": lambda: trained(
        "unigram",
        normalizers.Sequence(
            [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
        ),
        pre_tokenizers.Metaspace(),
    ),
    "t5": lambda: trained(
        "unigram",
        normalizers.Sequence(
            [
                normalizers.NFKC(),
                normalizers.Strip(left=False),
                normalizers.Replace(Regex(" {2,}"), "▁"),
            ]
        ),
        pre_tokenizers.Metaspace(),
    ),
    "albert": lambda: trained(
        "unigram",
        normalizers.Sequence(
            [
                normalizers.Replace("``", '"'),
                normalizers.Replace("''", '"'),
                normalizers.NFKD(),
                normalizers.StripAccents(),
                normalizers.Lowercase(),
            ]
        ),
        WORDS_THEN_MARKS,
    ),
    "deberta": lambda: trained(
        "unigram",
        normalizers.Sequence(
            [
                normalizers.Replace(Regex(r"\s{2,}|[\n\r\t]"), " "),
                normalizers.NFC(),
                normalizers.Strip(left=False),
            ]
        ),
        pre_tokenizers.Sequence([pre_tokenizers.Metaspace()]),
    ),
    "words and punctuation": lambda: trained(
        "wordpiece",
        normalizers.Lowercase(),
        pre_tokenizers.Sequence(
            [pre_tokenizers.Whitespace(), pre_tokenizers.Punctuation(), pre_tokenizers.Digits(True)]
        ),
    ),
}


def ids(tokenizer: Tokenizer, text: str) -> list[int]:
    found: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_the_tokens_before_a_cut_are_those_of_the_whole(family: str) -> None:
    tokenizer = FAMILIES[family]()
    cut = safe_cut(tokenizer)
    assert cut is not None
    cuts = 0
    for text in texts(2, 150):
        whole = ids(tokenizer, text)
        for found in cut.finditer(text):
            before = ids(tokenizer, text[: found.start()])
            assert before == whole[: len(before)], (text, found.start())
            cuts += 1
    assert cuts > 500


UNCUT: dict[str, Callable[[], Tokenizer]] = {
    "llama": lambda: trained("bpe", None, pre_tokenizers.Metaspace(split=False)),
    "gemma": lambda: trained(
        "bpe", normalizers.Replace(" ", "▁"), pre_tokenizers.Split(" ", "isolated")
    ),
    "no pre-tokenizer": lambda: trained("unigram", normalizers.NFKC(), None),
    "bytes without words": lambda: trained("bpe", None, pre_tokenizers.ByteLevel(use_regex=False)),
    "a pattern of one's own": lambda: trained(
        "bpe", None, pre_tokenizers.Split(Regex("cat sat"), "isolated")
    ),
    "a normalizer that takes spaces out": lambda: trained(
        "bpe", normalizers.Replace(" ", ""), pre_tokenizers.ByteLevel()
    ),
    "an added token with a space in it": lambda: trained(
        "bpe", None, pre_tokenizers.ByteLevel(), "cat sat"
    ),
    "an added token that gets one": lambda: trained(
        "wordpiece", normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer(), "cat中"
    ),
}


@pytest.mark.parametrize("family", UNCUT)
def test_others_are_never_cut(family: str) -> None:
    assert safe_cut(UNCUT[family]()) is None


def test_chance_merges_are_left_out() -> None:
    tokenizer = Tokenizer(models.BPE({"a": 0, "b": 1}, [], dropout=0.1))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    assert safe_cut(tokenizer) is None


@pytest.mark.parametrize(
    "text", ["no token goes on after a space, ", "中文", "a" * 5000 + " b", "…… "]
)
def test_a_long_text_gets_the_tokens_of_its_start(tmp_path: Path, text: str) -> None:
    tokenizer = bert()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    spec = TextInput(tokenizer="tokenizer.json", max_tokens=12, pad_id=0)
    modality = TextModality(spec, tmp_path, Limits())
    tokenizer.enable_truncation(12)
    for count in (1, 3, 50, 3000 if len(text) < 100 else 3):
        (row,) = modality.prepare(Text(text * count), refuse_truncation=False).rows
        assert row.feeds["input_ids"].tolist() == tokenizer.encode(text * count).ids


def test_a_text_that_is_too_long_is_refused_with_its_whole_length(tmp_path: Path) -> None:
    bert().save(str(tmp_path / "tokenizer.json"))
    spec = TextInput(tokenizer="tokenizer.json", max_tokens=10, pad_id=0)
    modality = TextModality(spec, tmp_path, Limits())
    with pytest.raises(InvalidItem, match=r"text has 20000 tokens, the model takes 10"):
        modality.prepare(Text("the cat " * 10_000), refuse_truncation=True)
    with pytest.raises(InvalidItem, match=r"text has 12 tokens, the model takes 10"):
        modality.prepare(Text("the cat " * 6), refuse_truncation=True)
