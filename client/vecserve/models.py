"""Descriptions of a server's models."""

from dataclasses import dataclass, field
from typing import Any, Self

from vecserve.v1 import model_pb2

LOADING = "loading"
"""A model's state before it answers."""


@dataclass(frozen=True, slots=True)
class Output:
    """One form in which a model gives its vectors."""

    pooling: str
    """What to pass as `pooling`."""
    normalized: bool
    """Whether `normalize`, left out, means True."""


@dataclass(frozen=True, slots=True)
class Modality:
    """One kind of input that a model takes."""

    name: str
    """text, image, audio or video."""
    outputs: tuple[Output, ...]
    """What can be asked for; the first is the default."""
    max_tokens: int
    """Text: the most tokens an item may have, special ones included; else 0."""
    window_seconds: float
    """Audio, video: the length of a window; longer items are split. Else 0."""
    max_seconds: float
    """Audio, video: the longest item accepted; else 0."""
    max_windows: int = 0
    """Video: the most windows taken of an item, at equal distances; else 0."""
    prompts: dict[str, str] = field(default_factory=dict)
    """Text: what goes before a text, by the name that `input_type` takes."""
    default_prompt: str | None = None
    """Text: the prompt of requests that name none."""
    max_frames: int = 0
    """Image: the most frames of a video that `frames` may ask for; 0 if it can ask for none."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One version of a model that a server has."""

    name: str
    version: str
    state: str
    """loading or ready."""
    description: str
    trained: bool
    """False if its weights are random: its vectors mean nothing."""
    license: str
    """Of the weights; an SPDX identifier where there is one."""
    source: str
    """Where the weights came from."""
    precision: str
    """Of the graph's numbers, such as fp32."""
    dimensions: int
    """Length of a vector."""
    modalities: tuple[Modality, ...]
    """All share one vector space."""
    matryoshka_dimensions: tuple[int, ...] = ()
    """To how many numbers vectors may be cut: those that it was trained for."""

    @classmethod
    def from_proto(cls, info: model_pb2.ModelInfo) -> Self:
        """Read the API's message."""
        return cls(
            name=info.name,
            version=info.version,
            state=_word(model_pb2.ModelState, "MODEL_STATE_", info.state),
            description=info.description,
            trained=info.trained,
            license=info.license,
            source=info.source,
            precision=info.precision,
            dimensions=info.dimensions,
            modalities=tuple(_modality(modality) for modality in info.modalities),
            matryoshka_dimensions=tuple(info.matryoshka_dimensions),
        )

    def takes(self, modality: str) -> bool:
        """Whether the model takes text, image, audio or video."""
        return any(own.name == modality for own in self.modalities)


def _modality(info: model_pb2.ModalityInfo) -> Modality:
    return Modality(
        name=_word(model_pb2.Modality, "MODALITY_", info.modality),
        outputs=tuple(
            Output(_word(model_pb2.Pooling, "POOLING_", output.pooling), output.normalized)
            for output in info.outputs
        ),
        max_tokens=info.max_tokens,
        window_seconds=info.window_seconds,
        max_seconds=info.max_seconds,
        prompts=dict(info.prompts),
        default_prompt=info.default_prompt or None,
        max_windows=info.max_windows,
        max_frames=info.max_frames,
    )


def _word(enum: Any, prefix: str, number: int) -> str:
    """Return the enum value's name in lower case; a newer server may send one we lack."""
    if number not in enum.values():
        return f"unknown ({number})"
    return str(enum.Name(number)).removeprefix(prefix).lower()
