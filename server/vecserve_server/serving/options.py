"""Embedding options of a request, and the graph output that answers them."""

from dataclasses import dataclass

from vecserve_server.errors import InvalidItem
from vecserve_server.modalities.encoding import Encoding
from vecserve_server.modalities.rows import OutputPlan
from vecserve_server.reasons import Reason
from vecserve_server.repository.manifest import Pooling, Tower


@dataclass(frozen=True, slots=True)
class Dimensions:
    """How many numbers a model's vectors have, and to how many it was trained to be cut."""

    full: int
    matryoshka: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class EmbedOptions:
    """How to embed an item; None is the model's own way.

    `each_window` is whether a long audio gets a vector a window. `input_type`
    names a prompt of the model, `prompt` is one in its place. `dimensions` is
    how many numbers of a vector to keep, if the model was trained so or they
    are forced. `frames` is how many frames of a video to embed as images.
    """

    normalize: bool | None = None
    refuse_truncation: bool = False
    pooling: Pooling | None = None
    encoding: Encoding = Encoding.FLOAT32
    each_window: bool | None = None
    input_type: str | None = None
    prompt: str | None = None
    dimensions: int | None = None
    force_dimensions: bool = False
    frames: int | None = None


def resolve(
    options: EmbedOptions, tower: Tower, dimensions: Dimensions, *, windowed: bool, sampled: bool
) -> OutputPlan:
    """Choose the graph output for `options` and what to do with it.

    `dimensions` are the model's, `windowed` is whether an item of the tower may
    have several rows, `sampled` whether these are items of their own.

    Raises InvalidItem if the model does not offer what is asked for.
    """
    pooling = options.pooling or tower.outputs[0].pooling
    offered = [output for output in tower.outputs if output.pooling is pooling]
    if not offered:
        names = ", ".join(dict.fromkeys(output.pooling.value for output in tower.outputs))
        raise InvalidItem(
            Reason.POOLING_NOT_OFFERED,
            f"no pooling {pooling.value!r} for {tower.input.kind} here; the model offers: {names}",
        )
    pooled = (windowed or sampled) and _pool_rows(options, pooling)
    pool_rows = pooled and not sampled
    normalize = offered[0].normalized if options.normalize is None else options.normalize
    raw = [output for output in offered if not output.normalized]
    unit = [output for output in offered if output.normalized]
    # Windows are pooled before they are normalised, never after.
    candidates = unit + raw if normalize and not pool_rows else raw
    if not candidates:
        raise InvalidItem(
            Reason.RAW_NOT_OFFERED, "the model gives unit vectors only: leave `normalize` out"
        )
    return OutputPlan(
        output=candidates[0],
        normalize=normalize,
        pool_rows=pool_rows,
        dimensions=_kept(options, dimensions),
        pool_vectors=pooled and sampled,
    )


def _kept(options: EmbedOptions, dimensions: Dimensions) -> int:
    """Return how many numbers of a vector are kept."""
    kept = options.dimensions or dimensions.full
    offered = (*dimensions.matryoshka, dimensions.full)
    if kept > dimensions.full or (kept not in offered and not options.force_dimensions):
        raise InvalidItem(
            Reason.DIMENSIONS_NOT_OFFERED,
            f"the model gives vectors of {', '.join(map(str, sorted(set(offered))))} numbers, not "
            f"{kept}: choose one of these, or force one below {dimensions.full} if a poor vector "
            "will do",
        )
    if options.encoding is Encoding.BINARY and kept % 8:
        raise InvalidItem(
            Reason.BINARY_NOT_OFFERED,
            f"vectors of {kept} numbers do not fill whole bytes of 8 bits: choose dimensions that "
            "are a multiple of 8, or another data type",
        )
    return kept


def _pool_rows(options: EmbedOptions, pooling: Pooling) -> bool:
    """Whether the rows of one item become one vector."""
    if pooling is not Pooling.NONE:
        return not options.each_window
    if options.each_window is False:
        raise InvalidItem(
            Reason.WINDOWS_NOT_POOLED,
            "WINDOWS_POOLED makes one vector of an item, POOLING_NONE keeps one a position: "
            "ask for one of the two",
        )
    return False
