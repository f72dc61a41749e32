"""Workloads: a model, and the kind of item sent to it."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Workload:
    """One kind of item for one graph of a model of the exporter's catalog.

    Text has `tokens` tokens. Images go to the server as JPEG files, or with
    `tensors` as uint8 [rows, H, W, 3] over the Open Inference Protocol.
    """

    model: str
    kind: Literal["text", "image", "audio"]
    what: str
    tokens: int = 0
    tensors: bool = False

    @property
    def name(self) -> str:
        """Name in the results."""
        return f"{self.model}, {self.what}"


_MINILM, _RESNET = "all-MiniLM-L6-v2", "resnet-50"
_JPEG = "JPEG 500 x 375"

WORKLOADS = {
    "minilm-16": Workload(_MINILM, "text", "16 tokens", tokens=16),
    "minilm-64": Workload(_MINILM, "text", "64 tokens", tokens=64),
    "minilm-256": Workload(_MINILM, "text", "256 tokens", tokens=256),
    "resnet": Workload(_RESNET, "image", _JPEG),
    "resnet-tensors": Workload(_RESNET, "image", "uint8 tensors", tensors=True),
    "clip-b32": Workload("clip-vit-base-patch32", "image", _JPEG),
    "clip-l14": Workload("clip-vit-large-patch14", "image", _JPEG),
    "whisper": Workload("whisper-base", "audio", "FLAC"),
}
