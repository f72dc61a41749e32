"""State of one stream, without any I/O: the sync and async clients share it."""

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

_LOADING = "MODEL_LOADING"
"""Reason of the server for an item of a model that does not answer yet, but will."""

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
        """Whether `Exchange.request` needs to be told what the item's model takes."""
        return bool(self.result.model) and _items.needs_model(self.content)


@dataclass(frozen=True, slots=True)
class End:
    """The end of the server's answers to one call, and what ended them early."""

    error: BaseException | None = None


class Exchange:
    """Which items of a stream are out, and which results are next.

    What was refused because its model is loading counts as unanswered, and is
    sent again by a further call.

    `enter` is called by whoever takes the caller's items, `request` by whoever
    sends, `receive` by whoever reads, the rest by whoever hands results to the
    caller. These may be threads of their own, and several may send and read.
    """

    def __init__(
        self,
        model: str | None,
        version: str | None,
        options: embedding_pb2.EmbedOptions,
        ordered: bool,
    ) -> None:
        if version and not model:
            raise ValueError("a version needs its model: name both, or the version in each Item")
        self._model = model or ""
        self._version = version or ""
        self._options = options
        self._ordered = ordered
        self._entered = 0
        self._delivered = 0
        # By the ids of messages: unanswered, and of those the refused.
        self._sent: dict[str, Entry] = {}
        self._refused: dict[str, Result] = {}
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
        if not entry.result.model:
            return self.refuse(
                entry,
                "INVALID_ARGUMENT",
                "NO_MODEL",
                "neither the item nor the call names a model: give Item(content, model=...)",
            )
        try:
            message = _items.encode(entry.content, model)
        except _items.UnusableItem as error:
            return self.refuse(entry, error.code, error.reason, error.message)
        message.item_id = str(entry.result.index)
        self._sent[message.item_id] = entry
        return embedding_pb2.EmbedStreamRequest(
            model=entry.result.model,
            version=entry.version,
            items=[message],
            options=self._options,
        )

    def refuse(self, entry: Entry, code: str, reason: str, message: str) -> Result:
        """Return the result of an item that fails on this side."""
        result = entry.result
        self._sent.pop(str(result.index), None)
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
        pending = self._sent[answer.item_id].result
        fields: dict[str, Any] = outcome_of(parts, pending.index, pending.id)
        result = dataclasses.replace(pending, **fields)
        if result.error is not None and result.error.reason == _LOADING:
            self._refused[answer.item_id] = result
            return None
        del self._sent[answer.item_id]
        return result

    @property
    def waiting(self) -> bool:
        """Whether items wait for a model that is loading."""
        return bool(self._refused)

    def awaited(self) -> set[tuple[str, str]]:
        """Return the models, by name and version, that items wait for."""
        return {self._model_of(item_id) for item_id in list(self._refused)}

    def again(self, models: set[tuple[str, str]]) -> list[Entry]:
        """Return the items that wait for these models, to be sent again."""
        ids = [item_id for item_id in list(self._refused) if self._model_of(item_id) in models]
        for item_id in ids:
            del self._refused[item_id]
        return [self._sent[item_id] for item_id in ids]

    def give_up(self) -> list[Result]:
        """Return the results, failures, of the items that wait for a model."""
        ids = list(self._refused)
        for item_id in ids:
            del self._sent[item_id]
        return [self._refused.pop(item_id) for item_id in ids]

    def _model_of(self, item_id: str) -> tuple[str, str]:
        entry = self._sent[item_id]
        return entry.result.model, entry.version

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
        if self._refused and _is_late(end.error):
            models = ", ".join(sorted({name for name, _ in self.awaited()}))
            raise errors.still_loading(address, models, unanswered) from end.error
        if isinstance(end.error, grpc.RpcError):
            raise errors.from_rpc(address, end.error, unanswered) from end.error
        if end.error is not None:
            raise end.error
        if unanswered:
            raise errors.ServerError(
                f"{address} ended the stream; items without an answer: {unanswered}", "OK"
            )


def _is_late(error: BaseException | None) -> bool:
    if isinstance(error, grpc.RpcError):
        return bool(error.code() is grpc.StatusCode.DEADLINE_EXCEEDED)
    return isinstance(error, TimeoutError)
