"""Transformers of text encoders: how each is loaded, masked and bounded in length.

All take `input_ids` and `attention_mask`, int64 [batch, sequence], padded at the
end. What else a transformer needs (token types, positions, masks of a window) is
made inside the graph.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from transformers import (
    BertModel,
    DistilBertModel,
    ModernBertModel,
    MPNetModel,
    RobertaModel,
    XLMRobertaModel,
)

from vecserve_export.checkpoint import Checkpoint
from vecserve_export.errors import Unsupported
from vecserve_export.families import pretrained
from vecserve_export.families.texts import MASKED

# MPNet counts positions from 2, whatever its configuration says.
_MPNET_PAD_ID = 1


class FullAttention(torch.nn.Module):
    """A transformer with attention to all tokens: as most have it."""

    def __init__(self, model: torch.nn.Module, *, token_types: bool) -> None:
        super().__init__()
        self.model = model
        self.token_types = token_types

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Take int64 [batch, sequence] twice, return [batch, sequence, width]."""
        # A ready-made additive mask: [batch, 1, 1, sequence], 0 or very low.
        additive = (1.0 - attention_mask[:, None, None, :].float()) * MASKED
        extra = {"token_type_ids": torch.zeros_like(input_ids)} if self.token_types else {}
        hidden: torch.Tensor = self.model(
            input_ids=input_ids, attention_mask=additive, **extra
        ).last_hidden_state
        return hidden


class WindowedAttention(torch.nn.Module):
    """ModernBERT: most layers see a window around each token."""

    def __init__(self, model: torch.nn.Module, half_window: int) -> None:
        super().__init__()
        self.model = model
        self.half_window = half_window

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Take int64 [batch, sequence] twice, return [batch, sequence, width]."""
        padding = 1.0 - attention_mask[:, None, None, :].float()
        sequence = torch.arange(input_ids.shape[1])
        far = (sequence[None, :] - sequence[:, None]).abs() > self.half_window
        hidden: torch.Tensor = self.model(
            input_ids=input_ids,
            attention_mask={
                "full_attention": padding * MASKED,
                "sliding_attention": torch.maximum(padding, far.float()[None, None]) * MASKED,
            },
        ).last_hidden_state
        return hidden


class RelativePositionTable:
    """MPNet's attention bias by relative position, looked up.

    The model computes it with a logarithm that is cut to an integer, where
    another runtime's last bit may choose another bucket, and repeats it for every
    row of the batch.
    """

    def __init__(self, encoder: Any, most_tokens: int) -> None:
        with torch.no_grad():
            # [heads, query, key]
            bias = encoder.compute_position_bias(torch.zeros(1, most_tokens, 1))[0]
        # From the key most_tokens - 1 before the query to the one as far after it.
        self.table = torch.cat([bias[:, -1], bias[:, 0, 1:]], dim=-1)
        self.middle = most_tokens - 1

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """Take [batch, sequence, width], return [1, heads, sequence, sequence]."""
        sequence = torch.arange(hidden.shape[1])
        return self.table[:, sequence[None, :] - sequence[:, None] + self.middle][None]


def _with_token_types(model: Any) -> torch.nn.Module:
    return FullAttention(model, token_types=True)


def _without_token_types(model: Any) -> torch.nn.Module:
    return FullAttention(model, token_types=False)


def _mpnet(model: Any) -> torch.nn.Module:
    most_tokens = BACKBONES["mpnet"].most_tokens(model.config)
    assert most_tokens is not None
    # A method of the encoder's own class, which a submodule of this name would not replace.
    model.encoder.compute_position_bias = RelativePositionTable(model.encoder, most_tokens)
    return FullAttention(model, token_types=False)


def _modernbert(model: Any) -> torch.nn.Module:
    return WindowedAttention(model, model.config.sliding_window)


@dataclass(frozen=True, slots=True)
class Backbone:
    """One architecture.

    `traceable` makes the module to trace of a loaded model, `options` are its class's.
    Positions are looked up `from zero` or `after padding` (behind the padding's id),
    or `computed`, which ends nowhere.
    """

    name: str
    model_class: Any
    traceable: Callable[[Any], torch.nn.Module]
    positions: Literal["from zero", "after padding", "computed"]
    options: dict[str, Any] = field(default_factory=dict)

    def pad_id(self, config: Any) -> int:
        """Return the token id that pads."""
        return _MPNET_PAD_ID if self.model_class is MPNetModel else config.pad_token_id or 0

    def most_tokens(self, config: Any) -> int | None:
        """Return how many tokens have a position; None if all have."""
        if self.positions == "computed":
            return None
        size: int = config.max_position_embeddings
        return size if self.positions == "from zero" else size - self.pad_id(config) - 1


_NO_POOLER = {"add_pooling_layer": False}
# By config.json's model_type.
BACKBONES = {
    "bert": Backbone("BERT", BertModel, _with_token_types, "from zero", _NO_POOLER),
    "distilbert": Backbone("DistilBERT", DistilBertModel, _without_token_types, "from zero"),
    "modernbert": Backbone("ModernBERT", ModernBertModel, _modernbert, "computed"),
    "mpnet": Backbone("MPNet", MPNetModel, _mpnet, "after padding", _NO_POOLER),
    "roberta": Backbone("RoBERTa", RobertaModel, _with_token_types, "after padding", _NO_POOLER),
    "xlm-roberta": Backbone(
        "XLM-RoBERTa", XLMRobertaModel, _with_token_types, "after padding", _NO_POOLER
    ),
}

# Settings of config.json with the only values that are built; absent is as good.
_FIXED = {
    "is_decoder": False,
    "add_cross_attention": False,
    "position_embedding_type": "absolute",
    "quantization_config": None,
}
_ADAPTER_FILE = "adapter_config.json"


def load(checkpoint: Checkpoint) -> tuple[Backbone, Any]:
    """Return the architecture and the model of a transformer's folder. Raises Unsupported."""
    config = checkpoint.json("config.json")
    kind = config.get("model_type")
    if kind not in BACKBONES:
        raise Unsupported(
            f"config.json: model_type {kind} is not supported: a text encoder is one of "
            f"{', '.join(BACKBONES)}"
        )
    if code := config.get("auto_map", {}).get("AutoModel"):
        raise Unsupported(
            f"config.json: auto_map names code of the model's own ({code}), which is not run: "
            "export a model of transformers' own architecture"
        )
    for key, value in _FIXED.items():
        if config.get(key, value) != value:
            raise Unsupported(
                f"config.json: {key} {config[key]} is not supported: export a model where it "
                f"is {value}"
            )
    if (checkpoint.folder / _ADAPTER_FILE).is_file():
        raise Unsupported(
            f"{_ADAPTER_FILE}: adapters are not supported: merge it into the model "
            "(merge_and_unload) and save that"
        )
    backbone = BACKBONES[kind]
    return backbone, pretrained.load(backbone.model_class, checkpoint, **backbone.options)
