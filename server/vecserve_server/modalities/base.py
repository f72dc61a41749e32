"""Modality base class: all that the server has to know of one kind of content.

A modality is one subclass of this in a file of its own, listed in `registry`,
beside its `Input` in the manifest. Nothing else asks what kind a tower is of.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from vecserve_server.errors import InvalidItem
from vecserve_server.modalities.content import Content, Limits
from vecserve_server.modalities.rows import Prepared, Row
from vecserve_server.reasons import Reason
from vecserve_server.repository.manifest import Input

Spec = TypeVar("Spec", bound=Input)
Item = TypeVar("Item", bound=Content)
Fields = Mapping[str, Callable[[Any], Content]]


class Modality(ABC, Generic[Spec, Item]):
    """Turns the items of one tower into rows of its graph. Thread-safe.

    Knows no gRPC and no ONNX Runtime.
    """

    fields: ClassVar[Fields]
    """By field of vecserve.v1.Item's `content`: what makes a content of its value."""

    accepts: ClassVar[tuple[type[Content], ...]]
    """The contents that `prepare` takes."""

    further_inputs: ClassVar[Fields] = {}
    """Inputs of BYTES beside the one named as the kind, as `fields`; they need an option."""

    windowed: ClassVar[bool] = False
    """Whether an item may have several rows, each a part of it in time."""

    decodes: ClassVar[bool] = False
    """Whether its items are files to be decoded, which is done in processes of their own.

    The modality is pickled to them.
    """

    @abstractmethod
    def __init__(self, spec: Spec, bundle_dir: Path, limits: Limits) -> None:
        """Raises ValueError if a file of the bundle or a limit is not usable."""

    @staticmethod
    @abstractmethod
    def from_bytes(data: bytes) -> Content:
        """Return the content that an element of a BYTES tensor holds. Raises InvalidItem."""

    @classmethod
    def describe(cls, spec: Spec, limits: Limits) -> dict[str, Any]:
        """Return what callers should know, by field of vecserve.v1.ModalityInfo."""
        return {}

    @property
    def pads(self) -> dict[str, int]:
        """What rows of several lengths are padded with, by input; empty if all are equal.

        `attention_mask` is among them, with 0: it says where padding is.
        """
        return {}

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """Least and greatest number that rows may hold, by input; of others all are right.

        Of tensors that callers make themselves; `prepare` keeps to them.
        """
        return {}

    @property
    def max_positions(self) -> int:
        """Length of the longest row, in the unit of the batch budget."""
        return 1

    @property
    def max_rows(self) -> int:
        """Rows of the largest item that the limits let in."""
        return 1

    @abstractmethod
    def blank_row(self, positions: int) -> Row:
        """Return a valid row of that length that means nothing: for measurements."""

    @abstractmethod
    def probe_rows(self) -> list[Row]:
        """Return rows on which a provider that computes less exactly would show it."""

    def with_prompt(self, content: Item, input_type: str | None, prompt: str | None) -> Item:
        """Return a content with a prompt of the model's, or one in its place, before it.

        Raises InvalidItem if there is none such; most modalities have none.
        """
        if input_type is not None or prompt is not None:
            raise InvalidItem(
                Reason.PROMPT_NOT_OFFERED,
                f"{content.described} takes no prompt: leave input_type and prompt out",
            )
        return content

    def is_quick(self, content: Item) -> bool:
        """Whether preparing this item takes less than handing it to a worker thread."""
        return False

    def decoded_bytes(self, content: Item) -> int:
        """Return about how much memory decoding takes at most, read from the file's header.

        0 for what is no more than usual. Raises InvalidItem as `prepare` does.
        """
        return 0

    @abstractmethod
    def prepare(self, content: Item, *, refuse_truncation: bool) -> Prepared:
        """Turn one item into rows; called in worker threads.

        Before the queue, so a bad item fails alone and batches hold valid rows
        only. Raises InvalidItem if the content cannot be decoded, is over a
        limit, or is too long and `refuse_truncation`.
        """
