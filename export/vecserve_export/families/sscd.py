"""SSCD: image vectors that find copies, near-duplicates and edits of a picture.

A Self-Supervised Descriptor for Image Copy Detection (Pizzi et al., CVPR 2022,
https://arxiv.org/abs/2202.10261), a ResNet-50. Two pictures of one subject are as
far apart as any two: it says what is a copy of what, not what is alike. Of
`sscd_disc_mixup`, 90 % of the pairs of Meta's DISC whose cosine is over 0.75 are
copies (its README).
"""

from pathlib import Path
from typing import Any

import numpy as np

from vecserve_export import samples
from vecserve_export.catalog import SSCD_GRAPH
from vecserve_export.checkpoint import Checkpoint
from vecserve_export.plan import GraphTowerPlan, Plan
from vecserve_server.repository.manifest import ImageInput, Output, Pooling, Tower

DIMENSIONS = 512
DESCRIPTION = "SSCD, a ResNet-50 that finds copies and edits of a picture, not pictures alike"
# Meta's `skew_320`: squashed to a square by torchvision's Resize, so that rows share
# batches. Its other way, a shortest edge of 288, gives each picture a shape of its own.
_EDGE = 320
_MAX_BATCH_ROWS = 8
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
                tower=Tower(
                    graph=SSCD_GRAPH,
                    input=image_input("image"),
                    outputs=(Output(name="embedding", pooling=Pooling.MEAN, normalized=True),),
                    max_batch_rows=_MAX_BATCH_ROWS,
                    max_batch_positions=_MAX_BATCH_ROWS,
                ),
                graph=checkpoint.folder / SSCD_GRAPH,
                precision="int8",
                feeds={"image": np.stack(rows)},
            ),
        ),
        files=files,
        license_files=tuple(files),
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
    """Refuse: random weights find no copies."""
    raise NotImplementedError("SSCD has no untrained form")
