"""SSCD: image vectors that find copies, near-duplicates and edits of a picture.

A Self-Supervised Descriptor for Image Copy Detection (Pizzi et al., CVPR 2022,
https://arxiv.org/abs/2202.10261), a ResNet-50. Two pictures of one subject need be no
nearer than any two: it says what is a copy of what, not what is alike. Of
`sscd_disc_mixup`, 90 % of the pairs of Meta's DISC whose cosine is over 0.75 are
copies (its README).
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from vecserve_export import samples
from vecserve_export.catalog import SSCD_GRAPH
from vecserve_export.checkpoint import Checkpoint
from vecserve_export.errors import Unsupported
from vecserve_export.families.images import PixelsToValues, Preprocessing
from vecserve_export.plan import Case, GraphTowerPlan, Plan, TowerPlan
from vecserve_server.repository.manifest import ImageInput, Output, Pooling, Tower

DIMENSIONS = 512
DESCRIPTION = "SSCD, a ResNet-50 that finds copies and edits of a picture, not pictures alike"
# Meta's `skew_320`: squashed to a square by torchvision's Resize, so that rows share
# batches. Its other way, a shortest edge of 288, gives each picture a shape of its own.
_EDGE = 320
_MAX_BATCH_ROWS = 8
_OUTPUT = "embedding"
_GEM_POWER, _GEM_MIN = 3.0, 1e-6
_LICENSE_FILES = ("LICENSE", "SSCD_LICENSE")


def plan(checkpoint: Checkpoint) -> Plan:
    """Plan the bundle of the published ONNX file, which is served as it is.

    It takes uint8 RGB, normalises, pools (generalized mean, p = 3) and scales to unit
    length; its layers are int8.
    """
    pixels = samples.photos(_EDGE, _EDGE)
    # Eight rows: the three photos, mirrored, upside down, once more.
    rows = [*pixels, *pixels[:, :, ::-1], *pixels[:2, ::-1]]
    files = {
        name: (checkpoint.folder / name).read_bytes()
        for name in _LICENSE_FILES
        if (checkpoint.folder / name).is_file()
    }
    return Plan(
        description=DESCRIPTION,
        dimensions=DIMENSIONS,
        towers=(
            GraphTowerPlan(
                tower=_tower(SSCD_GRAPH, image_input("image")),
                graph=checkpoint.folder / SSCD_GRAPH,
                precision="int8",
                feeds={"image": np.stack(rows)},
            ),
        ),
        files=files,
        license_files=tuple(files),
    )


class Descriptor(torch.nn.Module):
    """Pixels to a unit vector: ResNet, generalized mean (p = 3), a linear layer."""

    def __init__(
        self,
        trunk: torch.nn.Module,
        weight: torch.Tensor,
        bias: torch.Tensor,
        preprocessing: Preprocessing,
    ) -> None:
        super().__init__()
        self.values = PixelsToValues(preprocessing)
        self.trunk = trunk
        self.weight = torch.nn.Parameter(weight)
        self.bias = torch.nn.Parameter(bias)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Take uint8 [batch, H, W, 3], return float32 [batch, dimensions]."""
        return self.of_values(self.values(pixels))

    def of_values(self, values: torch.Tensor) -> torch.Tensor:
        """Take normalised float32 [batch, 3, H, W]."""
        features = self.trunk(values).last_hidden_state.flatten(2)
        pooled = features.clamp(min=_GEM_MIN).pow(_GEM_POWER).mean(2).pow(1 / _GEM_POWER)
        return torch.nn.functional.normalize(
            torch.nn.functional.linear(pooled, self.weight, self.bias)
        )


def plan_of(
    trunk: torch.nn.Module, weight: torch.Tensor, bias: torch.Tensor, preprocessing: Preprocessing
) -> Plan:
    """Plan the bundle of a ResNet and SSCD's linear layer, [dimensions, channels]."""
    module = Descriptor(trunk, weight, bias, preprocessing).eval()
    photos = samples.photos(_EDGE, _EDGE)
    cases = []
    for pixels in (photos[:2], photos[2:]):
        with torch.inference_mode():
            expected = module.of_values(preprocessing.reference(pixels)).numpy()
        cases.append(Case(f"{len(pixels)} photos", {"pixels": pixels}, (expected,)))
    return Plan(
        description=DESCRIPTION,
        dimensions=len(weight),
        towers=(
            TowerPlan(
                tower=_tower("image.onnx", preprocessing.input),
                module=module,
                axes={"pixels": {0: "batch"}, _OUTPUT: {0: "batch"}},
                cases=tuple(cases),
            ),
        ),
    )


def _tower(graph: str, image: ImageInput) -> Tower:
    return Tower(
        graph=graph,
        input=image,
        outputs=(Output(name=_OUTPUT, pooling=Pooling.MEAN, normalized=True),),
        max_batch_rows=_MAX_BATCH_ROWS,
        max_batch_positions=_MAX_BATCH_ROWS,
    )


def image_input(graph_input: str) -> ImageInput:
    """Return Meta's preprocessing, but for the normalisation."""
    return ImageInput(
        resize_height=_EDGE,
        resize_width=_EDGE,
        resample="bilinear",
        crop_height=_EDGE,
        crop_width=_EDGE,
        graph_input=graph_input,
    )


def write_untrained(config: dict[str, Any], folder: Path) -> None:
    """Raise Unsupported: random weights find no copies."""
    raise Unsupported("SSCD has no untrained form")
