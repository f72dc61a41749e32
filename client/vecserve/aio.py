"""Client for asyncio."""

# A `timeout` here is a gRPC deadline, which the server learns of; asyncio.timeout is not.
# ruff: noqa: ASYNC109

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack, overload

import grpc

from vecserve import _channel, _options, errors
from vecserve._deadline import Deadline, Retries
from vecserve._items import check_many, named
from vecserve._options import EmbedOptions, OutputType, Pooling, StreamOptions, Truncation, Windows
from vecserve._results import Result, VectorArray, rows_of, sequences_of, windows_of
from vecserve._stream import IN_FLIGHT, End, Entry, Exchange
from vecserve.models import LOADING, ModelInfo
from vecserve.v1 import embedding_pb2, embedding_pb2_grpc

T = TypeVar("T")
_Arrival = list[Result] | End

Items = Iterable[object] | AsyncIterable[object]

_LOST_STATUS = "Internal error from Core"
"""What grpc.aio reports, in place of the real status, when a call ends while a
message is being written (grpc/grpc#36066)."""


class AsyncClient:
    """A connection to one server, for one event loop. Tasks may share it.

    Make it inside the loop that uses it. The methods are those of Client, and so
    are their arguments and errors:

        async with AsyncClient("127.0.0.1:8001") as client:
            rows = await client.embed("all-MiniLM-L6-v2", ["a text", "another"])

    Items may come from an async iterable too. A plain one is run on the event
    loop: it should not block.
    """

    def __init__(
        self, address: str = _channel.DEFAULT_ADDRESS, *, round_robin: bool = False
    ) -> None:
        """Open a connection to `address`, or connections to all it names, as `Client` does."""
        self.address = address
        self._channel = grpc.aio.insecure_channel(
            _channel.target(address), options=_channel.options(round_robin=round_robin)
        )
        self._stub = embedding_pb2_grpc.EmbeddingServiceStub(self._channel)
        self._connected = False
        self._models: dict[tuple[str, str | None], ModelInfo] = {}

    async def close(self) -> None:
        """Close the connection; calls still open fail."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def models(self, *, timeout: float | None = None) -> list[ModelInfo]:
        """Return every version of every model, as `Client.models` does."""
        request = embedding_pb2.ListModelsRequest()
        response = await self._ask(self._stub.ListModels, request, timeout)
        return [ModelInfo.from_proto(info) for info in response.models]

    async def model(
        self, name: str, version: str | None = None, *, timeout: float | None = None
    ) -> ModelInfo:
        """Describe one model, as `Client.model` does."""
        request = embedding_pb2.GetModelRequest(model=name, version=version or "")
        response = await self._ask(self._stub.GetModel, request, timeout)
        return ModelInfo.from_proto(response.model)

    @overload
    async def embed(
        self,
        model: str,
        items: Items,
        *,
        pooling: Literal["none"],
        windows: Windows | None = None,
        **options: Unpack[EmbedOptions],
    ) -> list[VectorArray]: ...
    @overload
    async def embed(
        self,
        model: str,
        items: Items,
        *,
        pooling: Literal["mean", "cls", "last"] | None = None,
        windows: Literal["each"],
        **options: Unpack[EmbedOptions],
    ) -> list[VectorArray]: ...
    @overload
    async def embed(
        self,
        model: str,
        items: Items,
        *,
        pooling: Literal["mean", "cls", "last"] | None = None,
        windows: Literal["pooled"] | None = None,
        **options: Unpack[EmbedOptions],
    ) -> VectorArray: ...
    async def embed(
        self,
        model: str,
        items: Items,
        *,
        pooling: Pooling | None = None,
        version: str | None = None,
        normalize: bool | None = None,
        truncation: Truncation | None = None,
        dtype: OutputType = "float32",
        windows: Windows | None = None,
        input_type: str | None = None,
        prompt: str | None = None,
        dimensions: int | None = None,
        force_dimensions: bool = False,
        frames: int | None = None,
        timeout: float | None = None,
    ) -> VectorArray | list[VectorArray]:
        """Embed items and return one row an item, as `Client.embed` does."""
        check_many(items)
        deadline = Deadline(timeout)
        info = await self._describe(model, version, deadline)
        results = self.embed_stream(
            model,
            items,
            pooling=pooling,
            version=version,
            normalize=normalize,
            truncation=truncation,
            dtype=dtype,
            windows=windows,
            input_type=input_type,
            prompt=prompt,
            dimensions=dimensions,
            force_dimensions=force_dimensions,
            frames=frames,
            timeout=deadline.left_s,
            ordered=False,
        )
        in_order = sorted([result async for result in results], key=lambda result: result.index)
        if pooling == "none":
            return sequences_of(in_order, info)
        if windows == "each":
            return windows_of(in_order, info)
        return rows_of(in_order, info, dtype, dimensions)

    @overload
    def embed_stream(
        self, model: str | None, items: Items, **options: Unpack[StreamOptions]
    ) -> AsyncGenerator[Result]: ...
    @overload
    def embed_stream(
        self, items: Items, /, **options: Unpack[StreamOptions]
    ) -> AsyncGenerator[Result]: ...
    def embed_stream(
        self,
        model: str | Items | None = None,
        items: Items | None = None,
        *,
        pooling: Pooling | None = None,
        version: str | None = None,
        normalize: bool | None = None,
        truncation: Truncation | None = None,
        dtype: OutputType = "float32",
        windows: Windows | None = None,
        input_type: str | None = None,
        prompt: str | None = None,
        dimensions: int | None = None,
        force_dimensions: bool = False,
        frames: int | None = None,
        timeout: float | None = None,
        ordered: bool = True,
        in_flight: int = IN_FLIGHT,
    ) -> AsyncGenerator[Result]:
        """Embed items as they come, as `Client.embed_stream` does: `async for` over it.

        `items` is consumed in a task of its own. Leaving the loop cancels the
        call soon; `contextlib.aclosing` around it, or `aclose()`, at once.
        """
        name, items = named(model, items)
        if in_flight < 1:
            raise ValueError(f"in_flight must be at least 1, not {in_flight}")
        options = _options.to_proto(
            normalize=normalize,
            truncation=truncation,
            pooling=pooling,
            dtype=dtype,
            windows=windows,
            input_type=input_type,
            prompt=prompt,
            dimensions=dimensions,
            force_dimensions=force_dimensions,
            frames=frames,
        )
        return self._stream(Exchange(name, version, options, ordered), items, in_flight, timeout)

    async def _stream(
        self, exchange: Exchange, items: Items, in_flight: int, timeout: float | None
    ) -> AsyncGenerator[Result]:
        deadline = Deadline(timeout)
        retries = Retries(deadline)
        arrivals: asyncio.Queue[_Arrival] = asyncio.Queue()
        slots = asyncio.Semaphore(in_flight)
        failure: list[Exception] = []
        calls: list[Any] = []
        tasks: list[asyncio.Task[None]] = []

        async def take() -> AsyncIterator[Entry]:
            elements = _aiter(items)
            while await slots.acquire():
                try:
                    element = await anext(elements)
                except StopAsyncIteration:
                    return
                yield exchange.enter(element)

        async def send(call: Any, entries: AsyncIterator[Entry]) -> None:
            while True:
                try:
                    entry = await anext(entries)
                    outcome = await self._prepare(exchange, entry, deadline)
                except StopAsyncIteration:
                    break
                except Exception as error:
                    failure.append(error)  # raised once the rest is answered
                    break
                if isinstance(outcome, Result):
                    arrivals.put_nowait([outcome])
                else:
                    await call.write(outcome)
            await call.done_writing()

        async def read(call: Any) -> None:
            try:
                async for response in call:
                    self._connected = True
                    arrivals.put_nowait(exchange.receive(response))
            except grpc.aio.AioRpcError as error:
                arrivals.put_nowait(End(_real(error, late=deadline.passed)))
            except Exception as error:
                arrivals.put_nowait(End(error))
            else:
                arrivals.put_nowait(End())

        def begin(entries: AsyncIterator[Entry]) -> None:
            call = self._stub.EmbedStream(timeout=deadline.left_s)
            calls.append(call)
            tasks.extend(
                (asyncio.create_task(send(call, entries)), asyncio.create_task(read(call)))
            )

        async def arrive() -> _Arrival:
            while exchange.waiting:
                try:
                    async with asyncio.timeout(retries.wait_s()):
                        return await arrivals.get()
                except TimeoutError:
                    pass
                if retries.over:
                    return exchange.give_up() if timeout is None else End(TimeoutError())
                retries.tried()
                awaited = exchange.awaited()
                loaded = {m for m in awaited if not await self._is_loading(*m, deadline)}
                if loaded:
                    begin(_aiter(exchange.again(loaded)))
            return await arrivals.get()

        await self._connect(deadline)
        begin(take())
        end, ended = End(), 0
        try:
            while end.error is None and (ended < len(calls) or exchange.waiting):
                arrival = await arrive()
                if isinstance(arrival, End):
                    end, ended = arrival, ended + 1
                    continue
                if arrival and not exchange.waiting:
                    retries.reset()
                for result in exchange.deliver(arrival):
                    slots.release()
                    yield result
            for result in exchange.rest():
                yield result
            if failure:
                raise failure[0]
            exchange.check_end(self.address, end)
        finally:
            for call in calls:
                call.cancel()
            for task in tasks:
                task.cancel()
            # What `send` could not write, `read` has the reason for.
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _prepare(
        self, exchange: Exchange, entry: Entry, deadline: Deadline
    ) -> embedding_pb2.EmbedStreamRequest | Result:
        info = None
        if entry.needs_model:
            try:
                info = await self._describe(entry.result.model, entry.version, deadline)
            except errors.ModelNotFound as error:
                return exchange.refuse(entry, "NOT_FOUND", "MODEL_NOT_FOUND", str(error))
        if isinstance(entry.content, str):
            return exchange.request(entry, info)
        # May read a file or encode an image: not on the event loop.
        return await asyncio.to_thread(exchange.request, entry, info)

    async def _describe(self, name: str, version: str | None, deadline: Deadline) -> ModelInfo:
        """Return `model`'s answer, asked once."""
        key = (name, version or None)
        if key not in self._models:
            self._models[key] = await self.model(name, version, timeout=deadline.left_s)
        return self._models[key]

    async def _is_loading(self, name: str, version: str, deadline: Deadline) -> bool:
        """Whether the server says so; False too where only an item's answer tells more."""
        try:
            return (await self.model(name, version, timeout=deadline.left_s)).state == LOADING
        except errors.VecserveError:
            return False

    async def _ask(self, method: Any, request: Any, timeout: float | None) -> Any:
        """Return the answer to a unary call."""
        deadline = Deadline(timeout)
        await self._connect(deadline)
        try:
            response = await method(request, timeout=deadline.left_s)
        except grpc.RpcError as error:
            raise errors.from_rpc(self.address, error) from error
        self._connected = True
        return response

    async def _connect(self, deadline: Deadline) -> None:
        """Wait for the first connection, if there is a limit to that.

        Raises ServerUnavailable.
        """
        if self._connected or deadline.left_s is None:
            return
        try:
            async with asyncio.timeout(deadline.left_s):
                await self._channel.channel_ready()
        except TimeoutError as error:
            raise errors.no_server(self.address) from error
        self._connected = True


def _real(error: grpc.aio.AioRpcError, late: bool) -> grpc.aio.AioRpcError:
    """Return the error, or the likely one if its status is lost: too late, or server gone."""
    if error.details() != _LOST_STATUS:
        return error
    return grpc.aio.AioRpcError(
        grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.UNAVAILABLE,
        error.initial_metadata(),
        error.trailing_metadata(),
        details="the stream ended while an item was being sent",
    )


async def _aiter(items: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[T]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
