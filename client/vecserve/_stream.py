"""One stream's bookkeeping, without any I/O: the sync and async clients share it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from vecserve import _items, errors
from vecserve._results import Result, outcome_of
from vecserve.models import ModelInfo
from vecserve.v1 import embedding_pb2

IN_FLIGHT = 64
"""Items taken from the caller and not yet given back: two batches of 32, one in
the model and one waiting for it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An item on its way: its content, and its Result as far as it is known."""

    content: object
    version: str
    result: Result

    @property
    def needs_model(self) -> bool:
        """Whether `Exchange.request` needs to be told the item's model."""
        return _items.needs_model(self.content)


@dataclass(frozen=True, slots=True)
class End:
    """The end of the server's answers, and what ended them early."""

    error: BaseException | None = None


class Exchange:
    """Which items of a stream are out, and which results are next.

    `enter` and `request` are called by whoever sends, `receive` by whoever
    reads, `deliver` and `rest` by whoever hands results to the caller: these
    may be three threads, each one thread.
    """

    def __init__(
        self, model: str, version: str | None, options: embedding_pb2.EmbedOptions, ordered: bool
    ) -> None:
        self._model = model
        self._version = version or ""
        self._options = options
        self._ordered = ordered
        self._entered = 0
        self._delivered = 0
        self._sent: dict[str, Result] = {}
        self._parts: dict[str, list[embedding_pb2.ItemResult]] = {}
        self._early: dict[int, Result] = {}

    def enter(self, element: object) -> Entry:
        """Take the caller's next element and give it its index."""
        item = element if isinstance(element, _items.Item) else _items.Item(element)
        index, self._entered = self._entered, self._entered + 1
        name = str(item.content) if isinstance(item.content, Path) else str(index)
        model = item.model or self._model
        return Entry(
            content=item.content,
            # The call's version belongs to the call's model.
            version=item.version or (self._version if model == self._model else ""),
            result=Result(
                index=index,
                item=element,
                id=name if item.id is None else item.id,
                model=model,
            ),
        )

    def request(
        self, entry: Entry, model: ModelInfo | None
    ) -> embedding_pb2.EmbedStreamRequest | Result:
        """Return the message that sends an item, or its result if it cannot be sent.

        Reads the file of a Path. Raises TypeError or ValueError as `_items.encode` does.
        """
        try:
            message = _items.encode(entry.content, model)
        except _items.UnusableItem as error:
            return self.refuse(entry, error.code, error.reason, error.message)
        message.item_id = str(entry.result.index)
        self._sent[message.item_id] = entry.result
        return embedding_pb2.EmbedStreamRequest(
            model=entry.result.model,
            version=entry.version,
            items=[message],
            options=self._options,
        )

    def refuse(self, entry: Entry, code: str, reason: str, message: str) -> Result:
        """Return the result of an item that fails on this side."""
        result = entry.result
        failure = errors.ItemFailure(result.index, result.id, code, reason, message)
        return dataclasses.replace(result, error=failure)

    def receive(self, response: embedding_pb2.EmbedStreamResponse) -> list[Result]:
        """Return the results that a response completes."""
        return [
            result for answer in response.results if (result := self._complete(answer)) is not None
        ]

    def _complete(self, answer: embedding_pb2.ItemResult) -> Result | None:
        parts = self._parts.setdefault(answer.item_id, [])
        parts.append(answer)
        if answer.continues:
            return None
        del self._parts[answer.item_id]
        result = self._sent.pop(answer.item_id)
        fields: dict[str, Any] = outcome_of(parts, result.index, result.id)
        return dataclasses.replace(result, **fields)

    def deliver(self, results: list[Result]) -> Iterator[Result]:
        """Yield what the caller can have now: at once, or each in its turn."""
        if not self._ordered:
            yield from results
            return
        self._early.update((result.index, result) for result in results)
        while self._delivered in self._early:
            result = self._early.pop(self._delivered)
            self._delivered += 1
            yield result

    def rest(self) -> Iterator[Result]:
        """Yield, in order, the results still held back for one that never came."""
        for index in sorted(self._early):
            yield self._early.pop(index)

    def check_end(self, address: str, end: End) -> None:
        """Raise an error of the tree if the answers ended before all were there."""
        unanswered = len(self._sent)
        if isinstance(end.error, grpc.RpcError):
            raise errors.from_rpc(address, end.error, unanswered) from end.error
        if end.error is not None:
            raise end.error
        if unanswered:
            raise errors.ServerError(
                f"{address} ended the stream; items without an answer: {unanswered}", "OK"
            )
