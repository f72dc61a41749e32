"""BERT sentence encoders, as sentence-transformers builds them.

The outputs follow modules.json and 1_Pooling/config.json
(https://www.sbert.net/docs/package_reference/sentence_transformer/models.html):
a mean or CLS pooling, then unit length or not. A plain BERT without them is
mean-pooled, as sentence-transformers does.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import BertConfig, BertModel

from vecserve_export.checkpoint import Checkpoint
from vecserve_export.errors import Unsupported
from vecserve_export.families import pretrained, texts
from vecserve_export.plan import Case, Feeds, Plan, TowerPlan
from vecserve_server.repository.manifest import Output, Pooling, TextInput, Tower

# Sentences are short: 32 of them, or 2,048 padded tokens, keep a CPU busy for
# a tenth of a second, and larger batches are no faster.
_MAX_BATCH_ROWS = 32
_MAX_BATCH_POSITIONS = 2048

_POOLINGS = {"pooling_mode_mean_tokens": Pooling.MEAN, "pooling_mode_cls_token": Pooling.CLS}


class SentenceEncoder(torch.nn.Module):
    """BERT and its pooling. Returns the outputs in the order asked for."""

    def __init__(self, model: torch.nn.Module, pooling: Pooling, outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.model = model
        self.pooling = pooling
        self.outputs = outputs

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> list[torch.Tensor]:
        """Take int64 [batch, sequence] twice; see `_outputs` for what comes back."""
        # A ready-made additive mask: [batch, 1, 1, sequence], 0 or very low.
        additive = (1.0 - attention_mask[:, None, None, :].float()) * texts.MASKED
        tokens = self.model(
            input_ids=input_ids,
            attention_mask=additive,
            token_type_ids=torch.zeros_like(input_ids),
        ).last_hidden_state
        if self.pooling is Pooling.CLS:
            pooled = tokens[:, 0]
        else:
            weights = attention_mask.unsqueeze(-1).float()
            pooled = (tokens * weights).sum(1) / weights.sum(1)
        values = {
            "sentence_embedding": torch.nn.functional.normalize(pooled, dim=-1),
            "pooled": pooled,
            "token_embeddings": tokens,
        }
        return [values[name] for name in self.outputs]


def plan(checkpoint: Checkpoint) -> Plan:
    """Plan the bundle of a BERT checkpoint. Raises Unsupported."""
    model = pretrained.load(BertModel, checkpoint, add_pooling_layer=False)
    config = model.config
    pooling, normalized = _sentence_modules(checkpoint)
    tokenizer = texts.load_tokenizer(checkpoint)
    max_tokens = _max_tokens(checkpoint, config.max_position_embeddings)
    outputs = _outputs(pooling, normalized)
    tower = Tower(
        graph="text.onnx",
        input=TextInput(
            tokenizer=texts.TOKENIZER_FILE, max_tokens=max_tokens, pad_id=config.pad_token_id
        ),
        outputs=outputs,
        max_batch_rows=_MAX_BATCH_ROWS,
        max_batch_positions=_MAX_BATCH_POSITIONS,
    )
    cases = tuple(
        Case(name, feeds, _reference(model, feeds, tower))
        for name, feeds in texts.sample_feeds(tokenizer, max_tokens, config.pad_token_id).items()
    )
    # Eager attention traces to plain MatMul and Softmax, which every provider has.
    model.set_attn_implementation("eager")
    names = tuple(output.name for output in outputs)
    tokens = {0: "batch", 1: "sequence"}
    return Plan(
        description=f"Sentence encoder, BERT of {config.num_hidden_layers} layers",
        dimensions=config.hidden_size,
        towers=(
            TowerPlan(
                tower=tower,
                module=SentenceEncoder(model, pooling, names),
                axes={
                    "input_ids": tokens,
                    "attention_mask": tokens,
                    "sentence_embedding": {0: "batch"},
                    "pooled": {0: "batch"},
                    "token_embeddings": tokens,
                },
                cases=cases,
            ),
        ),
        files={texts.TOKENIZER_FILE: tokenizer.to_str().encode()},
    )


def write_untrained(config: dict[str, Any], folder: Path) -> None:
    """Write a checkpoint with random weights into a folder that has the tokenizer."""
    sentence = dict(config)
    pooling, max_tokens = sentence.pop("pooling"), sentence.pop("max_tokens")
    BertModel(BertConfig(**sentence), add_pooling_layer=False).save_pretrained(folder)
    modules = ["Transformer", "Pooling", "Normalize"]
    (folder / "modules.json").write_text(json.dumps([{"type": name} for name in modules]))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": max_tokens}))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({pooling: True}))


def _outputs(pooling: Pooling, normalized: bool) -> tuple[Output, ...]:
    unit = Output(name="sentence_embedding", pooling=pooling, normalized=True)
    raw = Output(name="pooled", pooling=pooling, normalized=False)
    tokens = Output(name="token_embeddings", pooling=Pooling.NONE, normalized=False)
    return (unit, raw, tokens) if normalized else (raw, unit, tokens)


def _sentence_modules(checkpoint: Checkpoint) -> tuple[Pooling, bool]:
    """Return the pooling, and whether the vector is then made unit length."""
    path = checkpoint.folder / "modules.json"
    if not path.is_file():
        return Pooling.MEAN, False
    kinds = [module["type"].rpartition(".")[2] for module in json.loads(path.read_text("utf-8"))]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise Unsupported(f"modules.json: {kinds} is not Transformer, Pooling and maybe Normalize")
    settings = checkpoint.json("1_Pooling/config.json")
    modes = [key for key, value in settings.items() if key.startswith("pooling_mode_") and value]
    if len(modes) != 1 or modes[0] not in _POOLINGS:
        raise Unsupported(f"1_Pooling/config.json: {modes} is not one of {sorted(_POOLINGS)}")
    return _POOLINGS[modes[0]], "Normalize" in kinds


def _max_tokens(checkpoint: Checkpoint, positions: int) -> int:
    settings = checkpoint.json("sentence_bert_config.json")
    if settings.get("do_lower_case"):
        raise Unsupported("sentence_bert_config.json: do_lower_case is not supported")
    own = settings.get("max_seq_length") or checkpoint.json("tokenizer_config.json").get(
        "model_max_length"
    )
    return min(own or positions, positions)


def _reference(
    model: torch.nn.Module, feeds: Feeds, tower: Tower
) -> tuple[npt.NDArray[np.float32], ...]:
    """Return what the stock model gives, pooled in numpy."""
    with torch.inference_mode():
        tokens = model(
            **{name: torch.from_numpy(array) for name, array in feeds.items()}
        ).last_hidden_state.numpy()
    mask = feeds["attention_mask"].astype(bool)
    vectors = []
    for output in tower.outputs:
        if output.pooling is Pooling.NONE:
            vectors.append(tokens)
            continue
        pooled = (
            tokens[:, 0]
            if output.pooling is Pooling.CLS
            else np.stack([row[keep].mean(0) for row, keep in zip(tokens, mask, strict=True)])
        )
        length = np.linalg.norm(pooled, axis=-1, keepdims=True) if output.normalized else 1
        vectors.append(pooled / length)
    return tuple(vectors)
