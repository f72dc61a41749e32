"""Embedding options of a request, and the graph output that answers them."""

from dataclasses import dataclass

from vecserve_server.errors import InvalidItem
from vecserve_server.modalities.rows import OutputPlan
from vecserve_server.reasons import Reason
from vecserve_server.repository.manifest import Pooling, Tower


@dataclass(frozen=True, slots=True)
class EmbedOptions:
    """How to embed an item; None is the model's own way.

    `each_window` is whether a long audio gets a vector a window.
    """

    normalize: bool | None = None
    refuse_truncation: bool = False
    pooling: Pooling | None = None
    half_precision: bool = False
    each_window: bool | None = None


def resolve(options: EmbedOptions, tower: Tower, *, windowed: bool) -> OutputPlan:
    """Choose the graph output for `options` and what to do with it.

    `windowed` is whether an item of the tower may have several rows.

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
    pool_rows = windowed and _pool_rows(options, pooling)
    normalize = offered[0].normalized if options.normalize is None else options.normalize
    raw = [output for output in offered if not output.normalized]
    unit = [output for output in offered if output.normalized]
    # Windows are pooled before they are normalised, never after.
    candidates = unit + raw if normalize and not pool_rows else raw
    if not candidates:
        raise InvalidItem(
            Reason.RAW_NOT_OFFERED, "the model gives unit vectors only: leave `normalize` out"
        )
    return OutputPlan(output=candidates[0], normalize=normalize, pool_rows=pool_rows)


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
