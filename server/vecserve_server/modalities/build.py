"""Chooses the pipeline for a tower."""

from pathlib import Path

from vecserve_server.modalities.audio import AudioPipeline
from vecserve_server.modalities.base import Pipeline
from vecserve_server.modalities.content import Limits
from vecserve_server.modalities.image import ImagePipeline
from vecserve_server.modalities.text import TextPipeline
from vecserve_server.repository.manifest import AudioInput, ImageInput, TextInput, Tower


def build_pipeline(tower: Tower, bundle_dir: Path, limits: Limits) -> Pipeline:
    """Build what prepares items for `tower`, whose files lie in `bundle_dir`.

    Raises ValueError if the bundle's tokenizer or a limit is not usable.
    """
    match tower.input:
        case TextInput() as spec:
            return TextPipeline(spec, bundle_dir, limits)
        case ImageInput() as spec:
            return ImagePipeline(spec, limits)
        case AudioInput() as spec:
            return AudioPipeline(spec, limits)
