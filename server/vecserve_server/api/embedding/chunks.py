"""Message sizes: stream responses that fit clients with gRPC's default limits."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from vecserve.v1 import embedding_pb2

M = TypeVar("M", embedding_pb2.ItemResult, embedding_pb2.Vector)

# gRPC's default limit on what a client receives is 4 MiB; this leaves room for
# a result's other fields. A single vector beyond it travels alone.
MESSAGE_BYTES = 4 * 1024 * 1024 - 64 * 1024


def pieces_of(result: embedding_pb2.ItemResult) -> Iterator[embedding_pb2.ItemResult]:
    """Yield a result in pieces of at most MESSAGE_BYTES, or of one vector.

    All but the last say that the result `continues`.
    """
    vectors = result.embedding.vectors
    if len(vectors) < 2 or result.ByteSize() <= MESSAGE_BYTES:
        yield result
        return
    groups = list(_grouped(vectors))
    for number, group in enumerate(groups):
        piece = embedding_pb2.ItemResult(
            item_id=result.item_id,
            timings=result.timings,
            version=result.version,
            continues=number < len(groups) - 1,
        )
        piece.embedding.token_count = result.embedding.token_count
        piece.embedding.truncated = result.embedding.truncated
        piece.embedding.vectors.extend(group)
        yield piece


def messages_of(
    results: Iterable[embedding_pb2.ItemResult],
) -> Iterator[list[embedding_pb2.ItemResult]]:
    """Yield results in order, as many to a message as fit MESSAGE_BYTES, at least one."""
    yield from _grouped(results)


def _grouped(
    messages: Iterable[M],
) -> Iterator[list[M]]:
    group: list[M] = []
    size = 0
    for message in messages:
        bytes_ = message.ByteSize()
        if group and size + bytes_ > MESSAGE_BYTES:
            yield group
            group, size = [], 0
        group.append(message)
        size += bytes_
    if group:
        yield group
