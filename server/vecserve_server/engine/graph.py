"""What a graph takes and gives, and which of its inputs may be padded."""

from dataclasses import dataclass

from vecserve_server.repository.manifest import Pooling, Tower

MASK_INPUT = "attention_mask"
MASK_PAD = 0


@dataclass(frozen=True, slots=True)
class GraphSpec:
    """How jobs for one graph may share a batch.

    `pads` maps each input whose axis 1 may be padded to the value it is padded
    with; empty where nothing masks the padding, and only jobs of equal shapes
    may then share a batch. `padded_outputs` are the outputs whose axis 1 is
    padded along with the inputs; it is cut off again.
    """

    pads: dict[str, int]
    padded_outputs: frozenset[str]

    @classmethod
    def of_tower(cls, tower: Tower) -> "GraphSpec":
        """Return the spec of a bundle's graph, by its manifest."""
        if tower.input.kind != "text":
            return cls({}, frozenset())
        return cls(
            {"input_ids": tower.input.pad_id, MASK_INPUT: MASK_PAD},
            frozenset(output.name for output in tower.outputs if output.pooling is Pooling.NONE),
        )
