"""Registry of the model families, by config.json's model_type.

To add a family: a module beside this one with the two functions of `Family`,
and its entry in FAMILIES.
"""

from pathlib import Path
from typing import Any, Protocol

from vecserve_export.catalog import SSCD_GRAPH
from vecserve_export.checkpoint import Checkpoint
from vecserve_export.errors import Unsupported
from vecserve_export.families import (
    clip,
    image_encoder,
    perceiver,
    sscd,
    text_encoder,
    torchvision_format,
    whisper,
)
from vecserve_export.families.ctranslate2_format import MODEL_FILE
from vecserve_export.families.sentence_modules import MODULES_FILE
from vecserve_export.families.text_backbones import BACKBONES
from vecserve_export.plan import Plan


class Planner(Protocol):
    """The function of a module that reads checkpoints of one form."""

    def plan(self, checkpoint: Checkpoint) -> Plan:
        """Read a checkpoint and plan its bundle. Raises Unsupported."""


class Family(Planner, Protocol):
    """The functions of a family's module."""

    def write_untrained(self, config: dict[str, Any], folder: Path) -> None:
        """Write a checkpoint with random weights from a catalog entry's settings.

        `folder` holds the entry's assets. The random numbers come from
        PyTorch's global generator, which the caller has seeded.
        """


FAMILIES: dict[str, Family] = {
    **dict.fromkeys(BACKBONES, text_encoder),
    "clip": clip,
    **dict.fromkeys(image_encoder.BACKBONES, image_encoder),
    "perceiver": perceiver,
    "sscd": sscd,
    "whisper": whisper,
}


def family_of(checkpoint: Checkpoint) -> Planner:
    """Return the family of a checkpoint. Raises Unsupported."""
    if (checkpoint.folder / MODEL_FILE).is_file():
        return FAMILIES["whisper"]
    if (checkpoint.folder / SSCD_GRAPH).is_file():
        return FAMILIES["sscd"]
    if (checkpoint.folder / torchvision_format.FILE).is_file():
        return torchvision_format
    kind = checkpoint.json("config.json").get("model_type")
    if kind in FAMILIES:
        return FAMILIES[kind]
    # The transformer may be in a folder of its own; what is not known is refused there.
    if (checkpoint.folder / MODULES_FILE).is_file():
        return text_encoder
    raise Unsupported(
        f"{checkpoint.source.location}: model_type {kind} in config.json "
        f"is none of {', '.join(FAMILIES)}"
    )
