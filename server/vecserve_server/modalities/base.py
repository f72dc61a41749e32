"""What the three pipelines have in common: content in, rows out, vectors back.

`prepare` runs in worker threads, before the queue, so a bad item fails alone
and batches hold valid arrays only. `finish` runs after the batch. Neither
knows protobuf, gRPC or ONNX Runtime.
"""

from typing import Protocol

from vecserve_server.modalities.content import Content
from vecserve_server.modalities.rows import Prepared


class Pipeline(Protocol):
    """Turns one modality's items into rows. Thread-safe."""

    def is_quick(self, content: Content) -> bool:
        """Whether preparing this item takes less than handing it to a worker thread."""
        ...

    def prepare(self, content: Content, *, refuse_truncation: bool) -> Prepared:
        """Turn one item into rows.

        Raises InvalidItem if the content is of another modality, cannot be
        decoded, is over a limit, or is too long and `refuse_truncation`.
        """
        ...
