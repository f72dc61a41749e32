"""The client for asyncio."""

# A `timeout` here is a gRPC deadline, which the server learns of; asyncio.timeout is not.
# ruff: noqa: ASYNC109

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from types import TracebackType
from typing import Literal, Self, Unpack, overload

import grpc

from vecserve import _channel, _options, errors
from vecserve._items import check_many
from vecserve._options import EmbedOptions, OutputType, Pooling, Truncation, Windows
from vecserve._results import FloatArray, Result, rows_of, sequences_of
from vecserve._stream import IN_FLIGHT, End, Entry, Exchange
from vecserve.models import ModelInfo
from vecserve.v1 import embedding_pb2, embedding_pb2_grpc

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
        try:
            response = await self._stub.ListModels(request, timeout=timeout)
        except grpc.RpcError as error:
            raise errors.from_rpc(self.address, error) from error
        return [ModelInfo.from_proto(info) for info in response.models]

    async def model(
        self, name: str, version: str | None = None, *, timeout: float | None = None
    ) -> ModelInfo:
        """Describe one model, as `Client.model` does."""
        request = embedding_pb2.GetModelRequest(model=name, version=version or "")
        try:
            response = await self._stub.GetModel(request, timeout=timeout)
        except grpc.RpcError as error:
            raise errors.from_rpc(self.address, error) from error
        return ModelInfo.from_proto(response.model)

    @overload
    async def embed(
        self,
        model: str,
        items: Items,
        *,
        pooling: Literal["none"],
        **options: Unpack[EmbedOptions],
    ) -> list[FloatArray]: ...
    @overload
    async def embed(
        self,
        model: str,
        items: Items,
        *,
        pooling: Literal["mean", "cls", "last"] | None = None,
        **options: Unpack[EmbedOptions],
    ) -> FloatArray: ...
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
        timeout: float | None = None,
    ) -> FloatArray | list[FloatArray]:
        """Embed items and return one row an item, as `Client.embed` does."""
        check_many(items)
        info = await self._describe(model, version, timeout)
        results = self.embed_stream(
            model,
            items,
            pooling=pooling,
            version=version,
            normalize=normalize,
            truncation=truncation,
            dtype=dtype,
            timeout=timeout,
            ordered=False,
        )
        in_order = sorted([result async for result in results], key=lambda result: result.index)
        if pooling == "none":
            return sequences_of(in_order, info)
        return rows_of(in_order, info, dtype)

    def embed_stream(
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
        timeout: float | None = None,
        ordered: bool = True,
        in_flight: int = IN_FLIGHT,
    ) -> AsyncGenerator[Result]:
        """Embed items as they come, as `Client.embed_stream` does: `async for` over it.

        `items` is consumed in a task of its own. Leaving the loop cancels the
        call soon; `contextlib.aclosing` around it, or `aclose()`, at once.
        """
        check_many(items)
        if in_flight < 1:
            raise ValueError(f"in_flight must be at least 1, not {in_flight}")
        options = _options.to_proto(
            normalize=normalize,
            truncation=truncation,
            pooling=pooling,
            dtype=dtype,
            windows=windows,
        )
        return self._stream(Exchange(model, version, options, ordered), items, in_flight, timeout)

    async def _stream(
        self, exchange: Exchange, items: Items, in_flight: int, timeout: float | None
    ) -> AsyncGenerator[Result]:
        arrivals: asyncio.Queue[list[Result] | End] = asyncio.Queue()
        slots = asyncio.Semaphore(in_flight)
        failure: list[Exception] = []
        clock = asyncio.get_running_loop().time
        deadline = math.inf if timeout is None else clock() + timeout

        async def send() -> None:
            elements = _aiter(items)
            while await slots.acquire():
                try:
                    element = await anext(elements)
                    outcome = await self._prepare(exchange, exchange.enter(element), timeout)
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

        async def read() -> None:
            try:
                async for response in call:
                    arrivals.put_nowait(exchange.receive(response))
            except grpc.aio.AioRpcError as error:
                arrivals.put_nowait(End(_real(error, late=clock() >= deadline)))
            except Exception as error:
                arrivals.put_nowait(End(error))
            else:
                arrivals.put_nowait(End())

        call = self._stub.EmbedStream(timeout=timeout)
        tasks = [asyncio.create_task(send()), asyncio.create_task(read())]
        try:
            while not isinstance(arrival := await arrivals.get(), End):
                for result in exchange.deliver(arrival):
                    slots.release()
                    yield result
            for result in exchange.rest():
                yield result
            if failure:
                raise failure[0]
            exchange.check_end(self.address, arrival)
        finally:
            call.cancel()
            for task in tasks:
                task.cancel()
            # What `send` could not write, `read` has the reason for.
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _prepare(
        self, exchange: Exchange, entry: Entry, timeout: float | None
    ) -> embedding_pb2.EmbedStreamRequest | Result:
        info = None
        if entry.needs_model:
            try:
                info = await self._describe(entry.result.model, entry.version, timeout)
            except errors.ModelNotFound as error:
                return exchange.refuse(entry, "NOT_FOUND", "MODEL_NOT_FOUND", str(error))
        if isinstance(entry.content, str):
            return exchange.request(entry, info)
        # May read a file or encode an image: not on the event loop.
        return await asyncio.to_thread(exchange.request, entry, info)

    async def _describe(self, name: str, version: str | None, timeout: float | None) -> ModelInfo:
        """Return `model`'s answer, asked once."""
        key = (name, version or None)
        if key not in self._models:
            self._models[key] = await self.model(name, version, timeout=timeout)
        return self._models[key]


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


async def _aiter(items: Items) -> AsyncIterator[object]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
