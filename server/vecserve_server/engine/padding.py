"""Padding rules of a graph: which inputs may be padded, which outputs are cut again."""

from collections.abc import Sequence
from dataclasses import dataclass

from vecserve_server.engine.tensors import BYTES, TensorSpec, has_batch_axis

MASK_INPUT = "attention_mask"
# What fills other inputs where the mask says that nothing is: a valid token of
# every vocabulary, position and segment.
_PAD = 0


@dataclass(frozen=True, slots=True)
class GraphSpec:
    """How jobs for one graph may share a batch.

    `pads` maps each input whose axis 1 may be padded to the value it is padded
    with, `mask` among them; empty where nothing masks the padding, and only
    jobs of equal shapes may then share a batch. `padded_outputs` are the
    outputs whose axis 1 is padded along with the inputs; it is cut off again.
    Without `batches` the graph has no batch axis and every job runs alone.
    """

    pads: dict[str, int]
    padded_outputs: frozenset[str]
    mask: str = MASK_INPUT
    batches: bool = True

    @classmethod
    def of_tensors(
        cls, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], mask: str | None
    ) -> "GraphSpec":
        """Return the spec of a graph without a manifest, by the names of its axes.

        Inputs may be padded if `mask` is an input [batch, length], its length
        has a name, and every axis of that name is a second one: then it is
        known which inputs to pad, and which outputs to cut.
        """
        if not has_batch_axis(inputs, outputs):
            return cls({}, frozenset(), batches=False)
        masks = [spec for spec in inputs if spec.name == mask and len(spec.shape) == 2]
        length = masks[0].shape[1] if masks else None
        if not isinstance(length, str):
            return cls({}, frozenset())
        padded = [spec for spec in inputs if spec.shape[1:2] == (length,)]
        can_pad = (
            all(spec.datatype is not BYTES for spec in padded)
            and all(length not in spec.shape[2:] for spec in (*inputs, *outputs))
            # An output of another free length depends on the padded one, nobody knows how.
            and all(
                axis == length or isinstance(axis, int)
                for output in outputs
                for axis in output.shape[1:]
            )
        )
        if not can_pad:
            return cls({}, frozenset())
        return cls(
            {spec.name: _PAD for spec in padded},
            frozenset(spec.name for spec in outputs if spec.shape[1:2] == (length,)),
            mask=masks[0].name,
        )
