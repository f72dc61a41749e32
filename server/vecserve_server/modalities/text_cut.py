"""Places where a text may be cut before it is tokenized, the tokens before the cut being the same.

Nearly all tokenizers split a text into words before their model sees it, and no word
goes on after a space. Where that holds, the tokens of `text[:at]` are the first tokens of
`text`, if `text[at]` is a space and the character before it is printable ASCII:

- a normalizer that is listed here changes characters one by one, or combines those of one
  grapheme; neither such a character nor a space combines with the other;
- a pre-tokenizer that is listed here ends a word there, and none looks further ahead;
- added tokens are looked for in the text as it is, so none may hold a space after
  something else.

tests/unit/modalities/test_text_cut.py compares them for each family.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import tokenizers

_SPACE = r"(?<=[!-~]) "
# BertNormalizer puts spaces around each of these.
_BETWEEN_CHINESE = r"(?<=[\u4e00-\u9fff])(?=[\u4e00-\u9fff])"
_INNER_SPACE = re.compile(r"\S\s")

_NORMALIZERS = {"BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Nmt", "Precompiled"}
_NORMALIZERS |= {"Prepend", "Strip", "StripAccents"}
# Of white space only, replaced by a space or by Metaspace's mark.
_SPACE_PATTERNS = {r"\s+", " {2,}", r"\s{2,}|[\n\r\t]"}
_MARK = "\u2581"

_SPLIT_AT_SPACES = {"BertPreTokenizer", "ByteLevel", "Metaspace", "Whitespace", "WhitespaceSplit"}
_SPLIT_WITHIN_WORDS = {"Digits", "Punctuation"}
# Those of CLIP, GPT-2, Llama 3 and Qwen 2: no match has a space after something else.
_CONTRACTIONS = "'s|'t|'re|'ve|'m|'ll|'d"
_WORDS = rf"(?i:{_CONTRACTIONS})|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|%s| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*"
_WORD_PATTERNS = {
    rf"<\|startoftext\|>|<\|endoftext\|>|{_CONTRACTIONS}|[\p{{L}}]+|[\p{{N}}]|[^\s\p{{L}}\p{{N}}]+",
    rf"{_CONTRACTIONS}| ?\p{{L}}+| ?\p{{N}}+| ?[^\s\p{{L}}\p{{N}}]+|\s+(?!\S)|\s+",
    *(
        _WORDS % number + r"|\s*[\r\n]+|\s+(?!\S)|\s+"
        for number in (r"\p{N}", r"\p{N}{1,3}", r"\p{N}+")
    ),
}


def safe_cut(tokenizer: tokenizers.Tokenizer) -> re.Pattern[str] | None:
    """Return what finds the places to cut a text at, before its match; None if there may be none.

    Stays on the safe side: a tokenizer of parts that are not known here is never cut for.
    """
    tokens = tokenizer.get_added_tokens_decoder().values()
    plain = all(token.content.isascii() for token in tokens if token.normalized)
    if not plain or any(_INNER_SPACE.search(token.content) for token in tokens):
        return None
    if getattr(tokenizer.model, "dropout", None):
        return None
    steps = list(_steps(tokenizer.pre_tokenizer, "pretokenizers"))
    kinds = {step["type"] for step in steps}
    if not all(_is_known_split(step) for step in steps) or not any(map(_splits, steps)):
        return None
    chinese = False
    for step in _steps(tokenizer.normalizer, "normalizers"):
        if not _is_known_normalizer(step, "Metaspace" in kinds):
            return None
        chinese |= step["type"] == "BertNormalizer" and step["handle_chinese_chars"]
    if chinese and "BertPreTokenizer" in kinds and all(own.content.isascii() for own in tokens):
        return re.compile(f"{_SPACE}|{_BETWEEN_CHINESE}")
    return re.compile(_SPACE)


def _steps(part: Any, field: str) -> Iterator[dict[str, Any]]:
    """Yield the settings of a normalizer or pre-tokenizer, of a sequence each one's."""
    pending = [] if part is None else [json.loads(part.__getstate__())]
    while pending:
        step = pending.pop(0)
        if step["type"] == "Sequence":
            pending = [*step[field], *pending]
        else:
            yield step


def _is_known_normalizer(step: dict[str, Any], marks_are_spaces: bool) -> bool:
    if step["type"] != "Replace":
        return step["type"] in _NORMALIZERS
    pattern, content = step["pattern"], step["content"]
    if "String" in pattern:
        return not re.search(r"\s", pattern["String"] + content) and bool(pattern["String"])
    return pattern["Regex"] in _SPACE_PATTERNS and (
        content == " " or (content == _MARK and marks_are_spaces)
    )


def _is_known_split(step: dict[str, Any]) -> bool:
    if step["type"] != "Split":
        return step["type"] in _SPLIT_AT_SPACES | _SPLIT_WITHIN_WORDS
    whole = (step["behavior"], step["invert"]) in (("Isolated", False), ("Removed", True))
    return whole and step["pattern"].get("Regex") in _WORD_PATTERNS


def _splits(step: dict[str, Any]) -> bool:
    match step["type"]:
        case "ByteLevel":
            return bool(step["use_regex"])
        case "Metaspace":
            return bool(step["split"])
    return step["type"] == "Split" or step["type"] in _SPLIT_AT_SPACES
