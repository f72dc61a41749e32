"""Tokenizer of a checkpoint, and token ids of the sample texts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer, normalizers
from transformers import AutoTokenizer

from vecserve_export import samples
from vecserve_export.checkpoint import Checkpoint
from vecserve_export.errors import Unsupported
from vecserve_export.plan import Feeds

TOKENIZER_FILE = "tokenizer.json"

# What hides a position in attention: float32's lowest number would become
# minus infinity in a runtime that computes in bfloat16, and zero times it NaN.
MASKED = torch.finfo(torch.bfloat16).min


def load_tokenizer(checkpoint: Checkpoint) -> Tokenizer:
    """Return the fast tokenizer, without truncation and padding: the server does both.

    A checkpoint without tokenizer.json (vocab.txt, or vocab.json and
    merges.txt) is converted by transformers.
    """
    path = checkpoint.folder / TOKENIZER_FILE
    return _whole(Tokenizer.from_file(str(path)) if path.is_file() else _converted(checkpoint))


def load_auto_tokenizer(checkpoint: Checkpoint) -> Tokenizer:
    """Return the tokenizer that transformers makes of a checkpoint, as `load_tokenizer` does.

    It may follow tokenizer_config.json where that and tokenizer.json differ, and
    sentence-transformers takes it. Raises Unsupported if it cuts texts at their
    beginning, which the server does not.
    """
    settings = checkpoint.json("tokenizer_config.json")
    if settings.get("truncation_side", "right") != "right":
        raise Unsupported(
            "tokenizer_config.json: truncation_side left is not supported, as the server cuts "
            "long texts at their end: set it to right if that will do"
        )
    return _whole(_converted(checkpoint)) if settings else load_tokenizer(checkpoint)


def lower_case(tokenizer: Tokenizer) -> None:
    """Lower-case a text before all else, as sentence-transformers' do_lower_case does."""
    own: Any = tokenizer.normalizer
    steps = [own] if own else []
    if isinstance(own, normalizers.Sequence):
        steps = [own[step] for step in range(len(own))]
    if not any(isinstance(step, normalizers.Lowercase) for step in steps):
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *steps])


def _converted(checkpoint: Checkpoint) -> Tokenizer:
    try:
        tokenizer: Tokenizer = AutoTokenizer.from_pretrained(
            checkpoint.folder, local_files_only=True
        ).backend_tokenizer
    except (OSError, ValueError, ImportError, AttributeError, KeyError) as error:
        raise Unsupported(
            f"{checkpoint.source.location}: transformers makes no fast tokenizer of it ({error}): "
            f"save one with {TOKENIZER_FILE}"
        ) from error
    return tokenizer


def _whole(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def tokenize(tokenizer: Tokenizer, texts: Sequence[str], max_tokens: int, pad_id: int) -> Feeds:
    """Return `input_ids` and `attention_mask`, int64 [batch, longest], padded at the end."""
    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.enable_truncation(max_tokens)
    encoded = [encoding.ids for encoding in copy.encode_batch(list(texts))]
    longest = max(map(len, encoded))
    ids: npt.NDArray[np.int64] = np.full((len(texts), longest), pad_id, dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, tokens in enumerate(encoded):
        ids[row, : len(tokens)] = tokens
        mask[row, : len(tokens)] = 1
    return {"input_ids": ids, "attention_mask": mask}


def sample_feeds(tokenizer: Tokenizer, max_tokens: int, pad_id: int) -> dict[str, Feeds]:
    """Return feeds to verify a text graph on, by name: two batch sizes, two lengths each."""
    short, long = samples.sentences(), samples.long_text()
    batches = [short[:4], short[:1], [long], [short[1], long, short[-1], short[6]]]
    feeds = [tokenize(tokenizer, texts, max_tokens, pad_id) for texts in batches]
    return {"{} x {} tokens".format(*feed["input_ids"].shape): feed for feed in feeds}
