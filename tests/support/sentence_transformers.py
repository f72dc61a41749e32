"""Small random sentence-transformers folders, built and saved by that library itself."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Transformer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertTokenizer,
    DistilBertConfig,
    ModernBertConfig,
    MPNetConfig,
    MPNetTokenizer,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaTokenizer,
    XLMRobertaConfig,
    XLMRobertaTokenizer,
)
from transformers.models.auto.modeling_auto import AutoModel

WIDTH = 32
POSITIONS = 256
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,'?:"
_BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())


def save(
    folder: Path,
    architecture: str,
    *modules: torch.nn.Module,
    max_tokens: int = 48,
    lower_case: bool = False,
    config: dict[str, Any] | None = None,
    **options: Any,
) -> SentenceTransformer:
    """Save a model of random weights, and return it as it is loaded from there.

    `modules` follow the transformer, `options` are SentenceTransformer's.
    """
    body = folder.with_name(f"{folder.name}-body")
    settings, tokenizer = _ARCHITECTURES[architecture]()
    settings.update(config or {})
    with torch.random.fork_rng():
        torch.manual_seed(11)
        AutoModel.from_config(settings).save_pretrained(body)
    tokenizer.save_pretrained(body)
    transformer = Transformer(str(body), max_seq_length=max_tokens, do_lower_case=lower_case)
    SentenceTransformer(modules=[transformer, *modules], device="cpu", **options).save(str(folder))
    return SentenceTransformer(str(folder), device="cpu")


def _bert() -> tuple[PreTrainedConfig, PreTrainedTokenizerBase]:
    tokenizer = BertTokenizer(vocab=_word_pieces("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"))
    return BertConfig(**_size(len(tokenizer)), intermediate_size=64), tokenizer


def _distilbert() -> tuple[PreTrainedConfig, PreTrainedTokenizerBase]:
    vocabulary = _word_pieces("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    tokenizer = BertTokenizer(vocab=vocabulary, do_lower_case=False)
    config = DistilBertConfig(
        vocab_size=len(tokenizer),
        dim=WIDTH,
        n_layers=2,
        n_heads=2,
        hidden_dim=64,
        max_position_embeddings=POSITIONS,
        initializer_range=_SPREAD,
    )
    return config, tokenizer


def _mpnet() -> tuple[PreTrainedConfig, PreTrainedTokenizerBase]:
    tokenizer = MPNetTokenizer(
        vocab=_word_pieces("<s>", "<pad>", "</s>", "<unk>", "[UNK]", "<mask>")
    )
    return MPNetConfig(**_size(len(tokenizer)), intermediate_size=64), tokenizer


def _roberta() -> tuple[PreTrainedConfig, PreTrainedTokenizerBase]:
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *_BYTES, "Ġc", "at", "<mask>"]
    tokenizer = RobertaTokenizer(vocab=_numbered(tokens), merges=[("Ġ", "c"), ("a", "t")])
    return RobertaConfig(**_size(len(tokenizer)), intermediate_size=64), tokenizer


def _xlm_roberta() -> tuple[PreTrainedConfig, PreTrainedTokenizerBase]:
    pieces = ["▁", "▁the", "▁cat", *_LETTERS, "▁q", "ue", "ry"]
    vocabulary = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    vocabulary += [(piece, -float(2 + number)) for number, piece in enumerate(pieces)]
    tokenizer = XLMRobertaTokenizer(vocab=vocabulary)
    return XLMRobertaConfig(**_size(len(tokenizer)), intermediate_size=64), tokenizer


def _modernbert() -> tuple[PreTrainedConfig, PreTrainedTokenizerBase]:
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = _numbered([*specials, *_BYTES, "Ġc", "at"])
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[("Ġ", "c"), ("a", "t")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {f"{token.strip('[]').lower()}_token": token for token in specials}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **names)
    config = ModernBertConfig(
        **_size(len(tokenizer)),
        intermediate_size=48,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
        cls_token_id=2,
        sep_token_id=3,
        # Texts must be longer than the window: 4 tokens to each side.
        local_attention=8,
        global_attn_every_n_layers=2,
    )
    return config, tokenizer


_ARCHITECTURES = {
    "bert": _bert,
    "distilbert": _distilbert,
    "modernbert": _modernbert,
    "mpnet": _mpnet,
    "roberta": _roberta,
    "xlm-roberta": _xlm_roberta,
}

# With the usual 0.02, the vectors of all texts would be nearly the same.
_SPREAD = 0.3


def _size(tokens: int) -> dict[str, Any]:
    return {
        "vocab_size": tokens,
        "hidden_size": WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": POSITIONS,
        "initializer_range": _SPREAD,
    }


def _word_pieces(*specials: str) -> dict[str, int]:
    words = ["the", "is", "cat", "query", "##s"]
    return _numbered([*specials, *words, *_LETTERS, *(f"##{letter}" for letter in _LETTERS)])


def _numbered(tokens: Sequence[str]) -> dict[str, int]:
    return {token: number for number, token in enumerate(dict.fromkeys(tokens))}
