"""ResNet image encoders: the pooled features before the classifier."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import ResNetConfig, ResNetModel

from vecserve_export import pretrained, samples
from vecserve_export.checkpoint import Checkpoint
from vecserve_export.errors import Unsupported
from vecserve_export.images import PixelsToValues, Preprocessing, convnext_preprocessing
from vecserve_export.plan import Case, Plan, TowerPlan
from vecserve_server.repository.manifest import Output, Pooling, Tower

# A photo costs a CPU tens of milliseconds: more rows a batch only make
# neighbours wait.
_MAX_BATCH_ROWS = 8

# What https://huggingface.co/microsoft/resnet-50 has in preprocessor_config.json.
_PREPROCESSING = {
    "crop_pct": 0.875,
    "do_normalize": True,
    "do_resize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_processor_type": "ConvNextImageProcessor",
    "image_std": [0.229, 0.224, 0.225],
    "resample": 3,
    "size": {"shortest_edge": 224},
}


class ImageEncoder(torch.nn.Module):
    """Pixels to the mean of the last feature map."""

    def __init__(self, model: torch.nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.values = PixelsToValues(preprocessing)
        self.model = model

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Take uint8 [batch, H, W, 3], return float32 [batch, dimensions]."""
        pooled: torch.Tensor = self.model(self.values(pixels)).pooler_output
        return pooled.flatten(1)


def plan(checkpoint: Checkpoint) -> Plan:
    """Plan the bundle of a ResNet checkpoint. Raises Unsupported."""
    settings = checkpoint.json("preprocessor_config.json")
    kind = settings.get("image_processor_type") or settings.get("feature_extractor_type", "none")
    if not kind.startswith("ConvNext"):
        raise Unsupported(f"preprocessor_config.json: {kind} is not ConvNextImageProcessor")
    preprocessing = convnext_preprocessing(settings)
    model = pretrained.load(ResNetModel, checkpoint)
    photos = samples.photos(preprocessing.input.crop_height, preprocessing.input.crop_width)
    cases = []
    for pixels in (photos[:2], photos[2:]):
        with torch.inference_mode():
            expected = model(preprocessing.reference(pixels)).pooler_output.flatten(1).numpy()
        cases.append(Case(f"{len(pixels)} photos", {"pixels": pixels}, (expected,)))
    return Plan(
        description=f"Image encoder, ResNet of stages {model.config.depths}",
        dimensions=model.config.hidden_sizes[-1],
        towers=(
            TowerPlan(
                tower=Tower(
                    graph="image.onnx",
                    input=preprocessing.input,
                    outputs=(Output(name="pooled", pooling=Pooling.MEAN, normalized=False),),
                    max_batch_rows=_MAX_BATCH_ROWS,
                    max_batch_positions=_MAX_BATCH_ROWS,
                ),
                module=ImageEncoder(model, preprocessing),
                axes={"pixels": {0: "batch"}, "pooled": {0: "batch"}},
                cases=tuple(cases),
            ),
        ),
    )


def write_untrained(config: dict[str, Any], folder: Path) -> None:
    """Write a checkpoint with random weights."""
    ResNetModel(ResNetConfig(**config)).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(_PREPROCESSING))
