"""Registry of modalities: the class that prepares each kind of a tower's input."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from vecserve_server.modalities.audio import AudioModality
from vecserve_server.modalities.base import Modality
from vecserve_server.modalities.content import Content, Limits
from vecserve_server.modalities.image import ImageModality
from vecserve_server.modalities.text import TextModality
from vecserve_server.modalities.video import VideoModality
from vecserve_server.repository.manifest import AudioInput, ImageInput, Input, TextInput, VideoInput

MODALITIES: dict[type[Input], type[Modality[Any, Any]]] = {
    TextInput: TextModality,
    ImageInput: ImageModality,
    AudioInput: AudioModality,
    VideoInput: VideoModality,
}


def build_modality(spec: Input, bundle_dir: Path, limits: Limits) -> Modality[Any, Any]:
    """Build what prepares items for a tower of the bundle in `bundle_dir`.

    Raises ValueError if the bundle's tokenizer or a limit is not usable.
    """
    return MODALITIES[type(spec)](spec, bundle_dir, limits)


def content_fields() -> dict[str, Callable[[Any], Content]]:
    """Return, by field of vecserve.v1.Item's `content`, what makes a content of its value."""
    return {field: make for one in MODALITIES.values() for field, make in one.fields.items()}
