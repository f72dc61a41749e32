"""Model descriptions of vecserve.v1: ModelInfo messages."""

from vecserve.v1 import model_pb2
from vecserve_server.api.embedding.requests import POOLING_VALUES
from vecserve_server.modalities.content import Limits
from vecserve_server.modalities.registry import MODALITIES
from vecserve_server.models.registry import ModelVersion, State
from vecserve_server.repository.manifest import Tower


def to_model_info(version: ModelVersion, limits: Limits) -> model_pb2.ModelInfo:
    """Return what this server says of a bundle that is READY, or still LOADING."""
    manifest = version.bundle.manifest
    ready = version.state is State.READY
    return model_pb2.ModelInfo(
        name=manifest.name,
        version=manifest.version,
        state=model_pb2.MODEL_STATE_READY if ready else model_pb2.MODEL_STATE_LOADING,
        description=manifest.description,
        trained=manifest.trained,
        license=manifest.license,
        source=f"{manifest.source.kind}: {manifest.source.location} {manifest.source.revision}",
        precision=manifest.precision,
        dimensions=manifest.dimensions,
        matryoshka_dimensions=manifest.matryoshka_dimensions,
        modalities=[_modality(tower, limits) for tower in manifest.towers],
    )


def _modality(tower: Tower, limits: Limits) -> model_pb2.ModalityInfo:
    name = f"MODALITY_{tower.input.kind.upper()}"
    known = name in model_pb2.Modality.DESCRIPTOR.values_by_name
    info = model_pb2.ModalityInfo(
        modality=name if known else None,
        outputs=[
            model_pb2.OutputInfo(
                pooling=POOLING_VALUES[output.pooling], normalized=output.normalized
            )
            for output in tower.outputs
        ],
    )
    facts = MODALITIES[type(tower.input)].describe(tower.input, limits)
    info.MergeFrom(model_pb2.ModalityInfo(**facts))
    return info
