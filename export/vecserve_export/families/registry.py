"""The model families. To add one: a module with the two functions, and a line here."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vecserve_export.checkpoint import Checkpoint
from vecserve_export.errors import Unsupported
from vecserve_export.families import bert, clip, resnet, whisper
from vecserve_export.families.ctranslate2_format import MODEL_FILE
from vecserve_export.plan import Plan


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of model.

    `plan` reads a checkpoint, `write_untrained` makes one with random weights
    from a catalog entry's settings.
    """

    plan: Callable[[Checkpoint], Plan]
    write_untrained: Callable[[dict[str, Any], Path], None]


# By config.json's model_type.
FAMILIES = {
    "bert": Family(bert.plan, bert.write_untrained),
    "clip": Family(clip.plan, clip.write_untrained),
    "resnet": Family(resnet.plan, resnet.write_untrained),
    "whisper": Family(whisper.plan, whisper.write_untrained),
}


def family_of(checkpoint: Checkpoint) -> Family:
    """Return the family of a checkpoint. Raises Unsupported."""
    if (checkpoint.folder / MODEL_FILE).is_file():
        return FAMILIES["whisper"]
    kind = checkpoint.json("config.json").get("model_type")
    if kind not in FAMILIES:
        raise Unsupported(
            f"{checkpoint.source.location}: model_type {kind} in config.json "
            f"is none of {', '.join(FAMILIES)}"
        )
    return FAMILIES[kind]
