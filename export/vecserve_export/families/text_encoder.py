"""Text encoders as sentence-transformers builds them: transformer, pooling, dense layers.

The transformers are BERT, MPNet, RoBERTa, XLM-RoBERTa, DistilBERT and ModernBERT;
what follows them is read from the folder's modules.json.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from vecserve_export.checkpoint import Checkpoint
from vecserve_export.families import sentence_head, sentence_modules, text_backbones, texts
from vecserve_export.families.sentence_modules import SentenceModules
from vecserve_export.plan import Case, Feeds, Plan, TowerPlan
from vecserve_server.repository.manifest import Output, Pooling, TextInput, Tower

# Sentences are short: 32 of them, or 2,048 padded tokens, keep a CPU busy for
# a tenth of a second, and larger batches are no faster.
_MAX_BATCH_ROWS = 32
_MAX_BATCH_POSITIONS = 2048

# The pooling inside an encoder, which an fp16 graph computes in float32 also
# where dense layers follow it: a sum over 8,192 tokens leaves fp16's range.
_POOLING = "pooling"


class SentenceEncoder(torch.nn.Module):
    """Transformer, pooling and what follows. Returns the outputs in the order asked for."""

    def __init__(
        self,
        backbone: torch.nn.Module,
        poolings: tuple[Pooling, ...],
        head: list[torch.nn.Module],
        outputs: tuple[str, ...],
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.pooling = sentence_head.TokenPooling(poolings)
        self.head = torch.nn.Sequential(*head)
        self.unit_length = sentence_head.UnitLength()
        self.outputs = outputs

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> list[torch.Tensor]:
        """Take int64 [batch, sequence] twice; see `_outputs` for what comes back."""
        tokens = self.backbone(input_ids, attention_mask)
        vector = self.head(self.pooling(tokens, attention_mask))
        values = {
            "sentence_embedding": self.unit_length(vector),
            "pooled": vector,
            "token_embeddings": tokens,
        }
        return [values[name] for name in self.outputs]


def plan(checkpoint: Checkpoint) -> Plan:
    """Plan the bundle of a text encoder. Raises Unsupported."""
    modules = sentence_modules.read(checkpoint)
    backbone, model = text_backbones.load(modules.transformer)
    config = model.config
    head = sentence_head.load_head(checkpoint, modules.head)
    normalized = bool(head) and isinstance(head[-1], sentence_head.UnitLength)
    if normalized:
        # The vector is offered before it too.
        head.pop()
    tokenizer = texts.load_auto_tokenizer(modules.transformer)
    if modules.lower_case:
        texts.lower_case(tokenizer)
    max_tokens = _max_tokens(modules, config.max_position_embeddings, backbone.most_tokens(config))
    pad_id = backbone.pad_id(config)
    feeds = texts.sample_feeds(tokenizer, max_tokens, pad_id)
    vectors = {
        name: _reference(model, modules.poolings, head, feed) for name, feed in feeds.items()
    }
    dimensions = next(iter(vectors.values()))[1].shape[-1]
    outputs = _outputs(
        modules.poolings, normalized=normalized, with_tokens=dimensions == config.hidden_size
    )
    # Eager attention traces to plain MatMul and Softmax, which every provider has.
    model.set_attn_implementation("eager")
    names = tuple(output.name for output in outputs)
    tokens = {0: "batch", 1: "sequence"}
    return Plan(
        description=_description(backbone.name, config.num_hidden_layers, modules, head),
        dimensions=dimensions,
        towers=(
            TowerPlan(
                tower=Tower(
                    graph="text.onnx",
                    input=TextInput(
                        tokenizer=texts.TOKENIZER_FILE,
                        max_tokens=max_tokens,
                        pad_id=pad_id,
                        prompts=modules.prompts,
                        default_prompt=modules.default_prompt,
                    ),
                    outputs=outputs,
                    max_batch_rows=_MAX_BATCH_ROWS,
                    max_batch_positions=_MAX_BATCH_POSITIONS,
                ),
                module=SentenceEncoder(backbone.traceable(model), modules.poolings, head, names),
                axes={
                    "input_ids": tokens,
                    "attention_mask": tokens,
                    "sentence_embedding": {0: "batch"},
                    "pooled": {0: "batch"},
                    "token_embeddings": tokens,
                },
                cases=tuple(
                    Case(name, feed, _in_order(names, *vectors[name]))
                    for name, feed in feeds.items()
                ),
                fp32_modules=(_POOLING,),
            ),
        ),
        files={texts.TOKENIZER_FILE: tokenizer.to_str().encode()},
    )


def write_untrained(config: dict[str, Any], folder: Path) -> None:
    """Write a checkpoint with random weights into a folder that has the tokenizer."""
    transformer = dict(config)
    pooling, max_tokens = transformer.pop("pooling"), transformer.pop("max_tokens")
    backbone = text_backbones.BACKBONES[transformer.pop("model_type")]
    settings = backbone.model_class.config_class(**transformer)
    backbone.model_class(settings, **backbone.options).save_pretrained(folder)
    modules = [
        {"type": f"sentence_transformers.models.{kind}", "path": path}
        for kind, path in (
            ("Transformer", ""),
            ("Pooling", "1_Pooling"),
            ("Normalize", "2_Normalize"),
        )
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": max_tokens}))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": pooling}))


def _outputs(
    poolings: tuple[Pooling, ...], *, normalized: bool, with_tokens: bool
) -> tuple[Output, ...]:
    """Return the outputs, the model's own first.

    Vectors of tokens are left out where they have other dimensions than the sentence's.
    """
    pooling = poolings[0] if len(poolings) == 1 else Pooling.CONCATENATED
    unit = Output(name="sentence_embedding", pooling=pooling, normalized=True)
    raw = Output(name="pooled", pooling=pooling, normalized=False)
    tokens = Output(name="token_embeddings", pooling=Pooling.NONE, normalized=False)
    vectors = (unit, raw) if normalized else (raw, unit)
    return (*vectors, tokens) if with_tokens else vectors


def _max_tokens(modules: SentenceModules, positions: int, most: int | None) -> int:
    """Return the most tokens of a text, as sentence-transformers decides it.

    That is what the folder says, else the least of what tokenizer and transformer
    say; never more than the transformer has positions for.
    """
    own = modules.max_tokens or min(
        modules.transformer.json("tokenizer_config.json").get("model_max_length") or positions,
        positions,
    )
    return own if most is None else min(own, most)


def _description(
    backbone: str, layers: int, modules: SentenceModules, head: list[torch.nn.Module]
) -> str:
    pooling = " and ".join(pooling.value.replace("_", " ") for pooling in modules.poolings)
    dense = ", dense layers" if any(isinstance(m, sentence_head.Dense) for m in head) else ""
    return f"Text encoder, {backbone} of {layers} layers, {pooling} pooling{dense}"


_Array = npt.NDArray[np.float32]


def _reference(
    model: torch.nn.Module,
    poolings: tuple[Pooling, ...],
    head: list[torch.nn.Module],
    feeds: Feeds,
) -> tuple[_Array, _Array]:
    """Return the stock model's vectors of the tokens, and of the texts, pooled in numpy."""
    with torch.inference_mode():
        tokens = model(
            **{name: torch.from_numpy(array) for name, array in feeds.items()}
        ).last_hidden_state.numpy()
    lengths = feeds["attention_mask"].sum(1)
    vectors = sentence_head.pool(
        poolings, [row[:length] for row, length in zip(tokens, lengths, strict=True)]
    )
    with torch.inference_mode():
        for module in head:
            vectors = module(torch.from_numpy(vectors)).numpy()
    return tokens, vectors


def _in_order(names: tuple[str, ...], tokens: _Array, vectors: _Array) -> tuple[_Array, ...]:
    values = {
        "sentence_embedding": vectors / np.linalg.norm(vectors, axis=-1, keepdims=True),
        "pooled": vectors,
        "token_embeddings": tokens,
    }
    return tuple(values[name] for name in names)
