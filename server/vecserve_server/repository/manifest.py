"""The bundle format: what `manifest.json` says of one version of a model.

A bundle is a folder `<repository>/<name>/<version>/` that holds this manifest
and every file it names. The exporter writes it, the server reads it; nothing
else of the server is shared with the exporter.

This module needs pydantic only.
"""

import hashlib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

MANIFEST_FILE = "manifest.json"


class Record(BaseModel):
    """A frozen record that refuses fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Pooling(StrEnum):
    """How the vectors of an item's positions become one.

    Positions are those that hold input. `weighted_mean` weighs them 1, 2, 3 ...;
    `mean_sqrt_len` divides their sum by the square root of their number;
    `concatenated` is several others' vectors in a row.
    """

    NONE = "none"
    MEAN = "mean"
    CLS = "cls"
    LAST = "last"
    MAX = "max"
    WEIGHTED_MEAN = "weighted_mean"
    MEAN_SQRT_LEN = "mean_sqrt_len"
    CONCATENATED = "concatenated"


class Output(Record):
    """One output of a tower's graph that a request can ask for.

    The graph gives float32 of shape [batch, dimensions], or
    [batch, positions, dimensions] where `pooling` is none.
    """

    name: str
    pooling: Pooling = Field(description="dense layers may follow it inside the graph")
    normalized: bool = Field(description="unit L2 length, made so inside the graph")


class TextInput(Record):
    """Text, tokenized by `tokenizer` (a Hugging Face tokenizer.json).

    The graph takes `input_ids` and `attention_mask`, int64 [batch, sequence],
    padded at the end to the longest of the batch with `pad_id` and 0.
    """

    kind: Literal["text"] = "text"
    tokenizer: str = Field(description="file name inside the bundle")
    max_tokens: int = Field(gt=0, description="special tokens included")
    pad_id: int = Field(ge=0)
    prompts: dict[str, str] = Field(
        default_factory=dict,
        description="texts to put before an item's, by name (query, passage ...); an empty one "
        "leaves it as it is",
    )
    default_prompt: str | None = Field(
        default=None, description="name of the prompt of a request that names none"
    )

    @model_validator(mode="after")
    def _default_is_a_prompt(self) -> "TextInput":
        if self.default_prompt is not None and self.default_prompt not in self.prompts:
            raise ValueError(f"default_prompt {self.default_prompt!r} is none of {self.prompts}")
        return self


class ImageInput(Record):
    """An image: its shortest edge is resized, then its centre is cropped.

    The graph takes `pixels`, uint8 RGB [batch, crop_height, crop_width, 3], and
    does the rest (rescale, normalise, layout).
    """

    kind: Literal["image"] = "image"
    resize_shortest_edge: int = Field(gt=0, description="pixels")
    resample: Literal["bilinear", "bicubic", "lanczos"] = Field(description="Pillow's filter")
    crop_height: int = Field(gt=0, description="pixels")
    crop_width: int = Field(gt=0, description="pixels")


class AudioInput(Record):
    """Mono audio in windows of one fixed length.

    The graph takes `waveform`, float32 [batch, window_samples] with zeros after
    the end of the input, and `lengths`, int64 [batch], the samples of input in
    each row (1 to window_samples). It computes the log-mel spectrogram itself;
    its mean pooling covers ceil(length / samples_per_position) positions.
    """

    kind: Literal["audio"] = "audio"
    sample_rate_hz: int = Field(gt=0)
    window_samples: int = Field(gt=0)
    samples_per_position: int = Field(gt=0)


class Tower(Record):
    """One graph of a bundle and the one modality it takes."""

    graph: str = Field(description="file name of the ONNX graph inside the bundle")
    input: Annotated[TextInput | ImageInput | AudioInput, Field(discriminator="kind")]
    outputs: tuple[Output, ...] = Field(min_length=1, description="the first is the default")
    max_batch_rows: int = Field(gt=0, description="rows a batch may have")
    max_batch_positions: int = Field(
        gt=0, description="rows times padded positions (tokens; 1 a row elsewhere) in a batch"
    )


class Source(Record):
    """Where the weights came from."""

    kind: Literal["path", "hub", "packages", "untrained"]
    location: str = Field(description="folder, hub repository, package names, or seed")
    revision: str = Field(description="hub commit, package versions, or sha256 of the weights")


class Parity(Record):
    """How far the graph's outputs are from the PyTorch model's.

    Measured by the exporter on `cases` (each a batch size and input), over all
    outputs. Absolute errors are relative to the largest absolute value of the
    reference output. The reference is fp32 whatever the bundle's precision; what
    is allowed as None is measured only. Figures that later exporters added are
    None in older bundles.
    """

    max_abs_error: float = Field(ge=0)
    min_cosine: float = Field(description="the worst pooled vector's; in older bundles any's")
    min_position_cosine: float | None = Field(
        default=None, description="the worst position's of an unpooled output, if there is one"
    )
    mean_cosine: float | None = Field(default=None, description="the worst output's and case's")
    max_abs_error_allowed: float | None
    min_cosine_allowed: float | None
    min_position_cosine_allowed: float | None = None
    mean_cosine_allowed: float | None = None
    max_neighbour_error: float | None = Field(
        default=None, description="what sharing a batch changes; at most 1e-5, in fp16 5e-3"
    )
    cases: tuple[str, ...] = Field(min_length=1)


class Manifest(Record):
    """What one bundle is."""

    format: Literal[1] = 1
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    version: str = Field(pattern=r"^[1-9][0-9]*$")
    description: str
    license: str = Field(description="of the weights; an SPDX identifier where there is one")
    trained: bool
    source: Source
    dimensions: int = Field(gt=0)
    precision: Literal["fp32", "fp16", "int8"] = Field(
        description="of the weights that are multiplied; inputs and outputs are the same in all"
    )
    opset: int = Field(gt=0)
    towers: tuple[Tower, ...] = Field(min_length=1, description="one a modality, one vector space")
    parity: Parity
    files: dict[str, str] = Field(description="sha256 of every other file, by name")
    exporter: str = Field(description="versions of what made the bundle")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as lower-case hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
