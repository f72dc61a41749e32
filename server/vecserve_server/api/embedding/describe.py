"""Model descriptions of vecserve.v1: ModelInfo messages."""

from vecserve.v1 import model_pb2
from vecserve_server.api.embedding.messages import POOLING_VALUES
from vecserve_server.modalities.content import Limits
from vecserve_server.models.models import Model
from vecserve_server.repository.manifest import Tower

_MODALITIES = {
    "text": model_pb2.MODALITY_TEXT,
    "image": model_pb2.MODALITY_IMAGE,
    "audio": model_pb2.MODALITY_AUDIO,
}


def to_model_info(model: Model, limits: Limits) -> model_pb2.ModelInfo:
    """Return what this server says of a model."""
    manifest = model.manifest
    return model_pb2.ModelInfo(
        name=manifest.name,
        version=manifest.version,
        state=model_pb2.MODEL_STATE_READY if model.ready else model_pb2.MODEL_STATE_LOADING,
        description=manifest.description,
        trained=manifest.trained,
        license=manifest.license,
        source=f"{manifest.source.kind}: {manifest.source.location} {manifest.source.revision}",
        precision=manifest.precision,
        dimensions=manifest.dimensions,
        modalities=[_modality(tower, limits) for tower in manifest.towers],
    )


def _modality(tower: Tower, limits: Limits) -> model_pb2.ModalityInfo:
    info = model_pb2.ModalityInfo(
        modality=_MODALITIES[tower.input.kind],
        outputs=[
            model_pb2.OutputInfo(
                pooling=POOLING_VALUES[output.pooling], normalized=output.normalized
            )
            for output in tower.outputs
        ],
    )
    if tower.input.kind == "text":
        info.max_tokens = tower.input.max_tokens
    if tower.input.kind == "audio":
        info.window_seconds = tower.input.window_samples / tower.input.sample_rate_hz
        info.max_seconds = limits.max_audio_s
    return info
