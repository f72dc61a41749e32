"""Image encoders of transformers: the pooled output of a backbone, before any classifier."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig

from vecserve_export import samples
from vecserve_export.checkpoint import Checkpoint
from vecserve_export.errors import Unsupported
from vecserve_export.families import pretrained
from vecserve_export.families.images import PixelsToValues, Preprocessing, preprocessing_of
from vecserve_export.plan import Case, Plan, TowerPlan
from vecserve_server.repository.manifest import Output, Pooling, Tower

# A photo costs a CPU tens of milliseconds: more rows a batch only make
# neighbours wait.
_MAX_BATCH_ROWS = 8


@dataclass(frozen=True, slots=True)
class Backbone:
    """A class of transformers, and how it pools.

    `pooler_optional` is of those whose pooler is a layer with weights, which a
    checkpoint that was trained as a classifier lacks: then the class token is taken.
    """

    model_class: str
    pooling: Pooling
    pooler_optional: bool = False


# By config.json's model_type. SigLIP's head attends to all patches: a mean by learned
# weights. Of a checkpoint with two towers, `siglip`, the image tower is taken.
BACKBONES = {
    "convnext": Backbone("ConvNextModel", Pooling.MEAN),
    "convnextv2": Backbone("ConvNextV2Model", Pooling.MEAN),
    "deit": Backbone("DeiTModel", Pooling.CLS, pooler_optional=True),
    "dinov2": Backbone("Dinov2Model", Pooling.CLS),
    "dinov2_with_registers": Backbone("Dinov2WithRegistersModel", Pooling.CLS),
    "regnet": Backbone("RegNetModel", Pooling.MEAN),
    "resnet": Backbone("ResNetModel", Pooling.MEAN),
    "siglip": Backbone("SiglipVisionModel", Pooling.MEAN),
    "siglip_vision_model": Backbone("SiglipVisionModel", Pooling.MEAN),
    "swin": Backbone("SwinModel", Pooling.MEAN),
    "swinv2": Backbone("Swinv2Model", Pooling.MEAN),
    "vit": Backbone("ViTModel", Pooling.CLS, pooler_optional=True),
}


class ImageEncoder(torch.nn.Module):
    """Pixels to one vector."""

    def __init__(self, model: torch.nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.values = PixelsToValues(preprocessing)
        self.model = model

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Take uint8 [batch, H, W, 3], return float32 [batch, dimensions]."""
        return vector_of(self.model(self.values(pixels)))


def vector_of(outputs: Any) -> torch.Tensor:
    """Return a backbone's pooled output or, if it has no pooler, its class token."""
    pooled: torch.Tensor | None = outputs.pooler_output
    if pooled is not None:
        return pooled.flatten(1)
    tokens: torch.Tensor = outputs.last_hidden_state
    return tokens[:, 0]


def plan(checkpoint: Checkpoint) -> Plan:
    """Plan the bundle of a checkpoint of any of BACKBONES. Raises Unsupported."""
    backbone = BACKBONES[checkpoint.json("config.json")["model_type"]]
    preprocessing = preprocessing_of(checkpoint)
    model = _load(backbone, checkpoint)
    described = f"Image encoder, {backbone.model_class.removesuffix('Model')}"
    return plan_of(model, preprocessing, backbone.pooling, described)


def plan_of(model: Any, preprocessing: Preprocessing, pooling: Pooling, description: str) -> Plan:
    """Plan the bundle of a model that takes values [batch, 3, H, W]."""
    photos = samples.photos(preprocessing.input.crop_height, preprocessing.input.crop_width)
    cases = []
    # References first, with the attention the checkpoint comes with.
    for pixels in (photos[:2], photos[2:]):
        try:
            with torch.inference_mode():
                expected = vector_of(model(preprocessing.reference(pixels))).numpy()
        except ValueError as error:
            raise Unsupported(
                f"the model does not take the pixels of preprocessor_config.json: {error}"
            ) from error
        cases.append(Case(f"{len(pixels)} photos", {"pixels": pixels}, (expected,)))
    model.set_attn_implementation("eager")
    _hold_positions(model, preprocessing.reference(photos[:1]))
    return Plan(
        description=description,
        dimensions=cases[0].expected[0].shape[1],
        towers=(
            TowerPlan(
                tower=Tower(
                    graph="image.onnx",
                    input=preprocessing.input,
                    outputs=(Output(name="pooled", pooling=pooling, normalized=False),),
                    max_batch_rows=_MAX_BATCH_ROWS,
                    max_batch_positions=_MAX_BATCH_ROWS,
                ),
                module=ImageEncoder(model, preprocessing),
                axes={"pixels": {0: "batch"}, "pooled": {0: "batch"}},
                cases=tuple(cases),
            ),
        ),
    )


def _hold_positions(model: Any, values: torch.Tensor) -> None:
    """Make DINOv2's embedding of positions a constant: all images have one size.

    It is resized from the size of training, with antialiasing, which ONNX has not.
    """
    embeddings = getattr(model, "embeddings", None)
    interpolate = getattr(embeddings, "interpolate_pos_encoding", None)
    if embeddings is None or interpolate is None:
        return
    positions: list[torch.Tensor] = []

    def record(*arguments: Any) -> torch.Tensor:
        positions.append(interpolate(*arguments).detach())
        return positions[-1]

    embeddings.interpolate_pos_encoding = record
    with torch.no_grad():
        model(values)
    # A model that was asked for its own size needs none.
    embeddings.interpolate_pos_encoding = (lambda *_: positions[0]) if positions else interpolate


def _load(backbone: Backbone, checkpoint: Checkpoint) -> Any:
    model_class = getattr(transformers, backbone.model_class)
    try:
        return pretrained.load(model_class, checkpoint)
    except Unsupported:
        if not backbone.pooler_optional:
            raise
    return pretrained.load(model_class, checkpoint, add_pooling_layer=False)


def write_untrained(config: dict[str, Any], folder: Path) -> None:
    """Write a checkpoint with random weights: `model`, settings of config.json, `preprocessor`."""
    settings = AutoConfig.for_model(**config["model"])
    model_class = getattr(transformers, BACKBONES[config["model"]["model_type"]].model_class)
    model_class(settings).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(config["preprocessor"]))
