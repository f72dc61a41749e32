"""Options of a request, as Python names them and as the API does."""

from typing import Any, Literal, TypedDict

from vecserve.v1 import embedding_pb2, model_pb2

Pooling = Literal[
    "none", "mean", "cls", "last", "max", "weighted_mean", "mean_sqrt_len", "concatenated"
]
"""How the vectors of an item's positions become one; none: one a position."""

Truncation = Literal["end", "refuse"]
"""What becomes of an input longer than the model takes."""

OutputType = Literal["float32", "float16", "int8", "uint8", "binary"]
"""How the server writes vectors."""

Windows = Literal["each", "pooled"]
"""What becomes of the windows of a long audio or video: a vector each, or one for all."""


class EmbedOptions(TypedDict, total=False):
    """What `embed` takes beside pooling and windows; `Client.embed` explains each."""

    version: str | None
    normalize: bool | None
    truncation: Truncation | None
    dtype: OutputType
    input_type: str | None
    prompt: str | None
    dimensions: int | None
    force_dimensions: bool
    frames: int | None
    timeout: float | None


class StreamOptions(EmbedOptions, total=False):
    """What `embed_stream` takes; `Client.embed_stream` explains each."""

    pooling: Pooling | None
    windows: Windows | None
    ordered: bool
    in_flight: int


def to_proto(
    *,
    normalize: bool | None,
    truncation: Truncation | None,
    pooling: Pooling | None,
    dtype: OutputType,
    windows: Windows | None,
    input_type: str | None,
    prompt: str | None,
    dimensions: int | None,
    force_dimensions: bool,
    frames: int | None,
) -> embedding_pb2.EmbedOptions:
    """Return the options as a message; None leaves the choice to the model.

    Raises ValueError for a word the API does not know, and for what no model can do.
    """
    for name, count in (("dimensions", dimensions), ("frames", frames)):
        if count is not None and count < 1:
            raise ValueError(f"{name} must be at least 1, not {count}")
    if input_type is not None and prompt is not None:
        raise ValueError("input_type and prompt: give one of them")
    options = embedding_pb2.EmbedOptions(
        truncation=_number(embedding_pb2.Truncation, "truncation", truncation),
        pooling=_number(model_pb2.Pooling, "pooling", pooling),
        output_dtype=_number(embedding_pb2.DataType, "dtype", dtype, prefix="DATA_TYPE"),
        windows=_number(embedding_pb2.Windows, "windows", windows),
        input_type=input_type or "",
        prompt=prompt,
        dimensions=dimensions or 0,
        force_dimensions=force_dimensions,
        frames=frames or 0,
    )
    if normalize is not None:
        options.normalize = normalize
    return options


def _number(enum: Any, option: str, word: str | None, prefix: str | None = None) -> Any:
    """Return the enum's number for a word such as "mean"; 0 for None."""
    if word is None:
        return 0
    prefix = f"{prefix or option.upper()}_"
    words = {name.removeprefix(prefix).lower(): value for name, value in enum.items() if value}
    if word not in words:
        raise ValueError(f"{option} must be one of {', '.join(words)}, not {word!r}")
    return words[word]
