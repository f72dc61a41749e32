"""Embedding stream: reading with back-pressure, answering each item once, writing.

Three loops meet here. The reader takes a place for every item and starts a
task that answers it; finished answers go to the outbox; the writer sends them
and gives the places back. So a client that does not read its answers, or a
model that is busy, stops the reader, and HTTP/2 stops the sender.
"""

import asyncio
from collections import deque

import grpc

from vecserve.v1 import embedding_pb2
from vecserve_server.api.embedding.chunks import messages_of, pieces_of
from vecserve_server.api.embedding.items import ItemContext, ItemHandler
from vecserve_server.api.embedding.results import to_error_result
from vecserve_server.api.rpc.caller import Caller
from vecserve_server.api.rpc.streaming import read_stream
from vecserve_server.errors import DuplicateItem, ServingError
from vecserve_server.reasons import Reason
from vecserve_server.telemetry.timings import Timings
from vecserve_server.wording import quoted

ItemResult = embedding_pb2.ItemResult


class EmbedStream:
    """The state of one stream."""

    def __init__(
        self,
        context: grpc.aio.ServicerContext,
        caller: Caller,
        handler: ItemHandler,
        stopping: asyncio.Event,
        max_items: int,
    ) -> None:
        self._context = context
        self._caller = caller
        self._handler = handler
        self._stopping = stopping
        self._slots = asyncio.Semaphore(max_items)
        self._unanswered: set[str] = set()
        self._tasks: set[asyncio.Task[ItemResult]] = set()
        # In the order to be sent. Ordered streams append a task when its item
        # is read, others when it is done.
        self._outbox: deque[asyncio.Task[ItemResult]] = deque()
        self._news = asyncio.Event()
        # As the first message says.
        self._ordered: bool | None = None

    async def serve(self) -> None:
        """Answer all that the client sends. Raises ServingError if it ends before its end."""
        reader = asyncio.create_task(
            read_stream(
                self._context, embedding_pb2.EmbedStreamRequest, self._accept, self._stopping
            )
        )
        reader.add_done_callback(lambda _: self._news.set())
        try:
            while not (reader.done() and not self._tasks and not self._outbox):
                await self._news.wait()
                self._news.clear()
                await self._write_ready()
            if error := reader.result():
                raise error
        finally:
            reader.cancel()
            for task in self._tasks:
                task.cancel()

    async def _accept(self, message: embedding_pb2.EmbedStreamRequest) -> None:
        if self._ordered is None:
            self._ordered = message.ordered
        try:
            shared: ItemContext | ServingError = self._handler.context_of(message, self._caller)
        except ServingError as error:
            shared = error
        for item in message.items:
            await self._slots.acquire()
            self._start(item, shared)

    def _start(self, item: embedding_pb2.Item, shared: ItemContext | ServingError) -> None:
        if item.item_id in self._unanswered:
            result = _refuse_duplicate(item.item_id)
        else:
            self._unanswered.add(item.item_id)
            result = self._handle(item, shared)
        task = asyncio.create_task(result)
        self._tasks.add(task)
        if self._ordered:
            self._outbox.append(task)
        task.add_done_callback(self._done)

    async def _handle(
        self, item: embedding_pb2.Item, shared: ItemContext | ServingError
    ) -> ItemResult:
        try:
            if isinstance(shared, ServingError):
                return self._handler.refuse(item, shared)
            return await self._handler.handle(item, shared)
        finally:
            self._unanswered.discard(item.item_id)

    def _done(self, task: asyncio.Task[ItemResult]) -> None:
        self._tasks.discard(task)
        if not self._ordered:
            self._outbox.append(task)
        self._news.set()

    async def _write_ready(self) -> None:
        """Send what is done and may go, in as few messages as their size allows."""
        while self._outbox and self._outbox[0].done():
            ready = []
            while self._outbox and self._outbox[0].done():
                ready.append(self._outbox.popleft().result())
            pieces = [piece for result in ready for piece in pieces_of(result)]
            for results in messages_of(pieces):
                await self._context.write(embedding_pb2.EmbedStreamResponse(results=results))
            for _ in ready:
                self._slots.release()


async def _refuse_duplicate(item_id: str) -> ItemResult:
    error = DuplicateItem(
        Reason.DUPLICATE_ITEM_ID,
        f"another item with item_id {quoted(item_id)} is not answered yet: give each its own",
    )
    return to_error_result(item_id, error, Timings(), version="")
