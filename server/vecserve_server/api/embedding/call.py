"""Embed call: all items of a request, some at a time."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

from vecserve.v1 import embedding_pb2
from vecserve_server.api.rpc.parsing import in_thread
from vecserve_server.errors import InvalidItem
from vecserve_server.reasons import Reason
from vecserve_server.wording import quoted

# A call of more is refused. The queue of a model for short texts holds about as many.
MAX_ITEMS = 64 * 1024
# Under way at a time: enough to fill batches with texts of like lengths, and few enough to be
# let go, when the caller leaves, in 20 ms.
_WINDOW = 1024
# What the event loop does in one go.
_FEW = 256

Answer = Callable[[embedding_pb2.Item], Awaitable[embedding_pb2.ItemResult]]


async def check_items(items: Sequence[embedding_pb2.Item], peer: str) -> Mapping[str | None, int]:
    """Return how many items of a peer have each field of `content`.

    Raises InvalidItem: NO_ITEMS, TOO_MANY_ITEMS, DUPLICATE_ITEM_ID.
    """
    if not items:
        raise InvalidItem(Reason.NO_ITEMS, "the request holds no items: send at least one")
    if len(items) > MAX_ITEMS:
        raise InvalidItem(
            Reason.TOO_MANY_ITEMS,
            f"the request holds {len(items)} items, a request may have {MAX_ITEMS}: use a stream, "
            "or smaller requests",
        )
    count = partial(_count_fields, items)
    return count() if len(items) <= _FEW else await in_thread(count, peer)


def _count_fields(items: Sequence[embedding_pb2.Item]) -> Mapping[str | None, int]:
    if len(items) == 1:
        return {items[0].WhichOneof("content"): 1}
    item_id, count = Counter(item.item_id for item in items).most_common(1)[0]
    if count > 1:
        raise InvalidItem(
            Reason.DUPLICATE_ITEM_ID,
            f"{count} items have the item_id {quoted(item_id)}: give each its own",
        )
    return Counter(item.WhichOneof("content") for item in items)


async def answer_all(
    items: Sequence[embedding_pb2.Item], answer: Answer
) -> embedding_pb2.EmbedResponse:
    """Return the results of all items, in their order. `answer` never raises."""
    if len(items) == 1:
        # A task for each costs more than the wait for the only one.
        return embedding_pb2.EmbedResponse(results=[await answer(items[0])])
    results: dict[int, embedding_pb2.ItemResult] = {}
    left = iter(enumerate(items))

    async def work() -> None:
        for index, item in left:
            results[index] = await answer(item)
            # What is refused needs no wait, and there may be many such.
            await asyncio.sleep(0)

    await asyncio.gather(*(work() for _ in range(min(len(items), _WINDOW))))
    response = embedding_pb2.EmbedResponse()
    for start in range(0, len(items), _FEW):
        stop = min(start + _FEW, len(items))
        response.results.extend(results.pop(index) for index in range(start, stop))
        if stop < len(items):
            await asyncio.sleep(0)
    return response
