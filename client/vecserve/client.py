"""The client."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable, Iterator
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

_Arrival = list[Result] | End


class Client:
    """A connection to one server. Threads may share it.

    Use it as a context manager, or call `close`:

        with Client("127.0.0.1:8001") as client:
            rows = client.embed("all-MiniLM-L6-v2", ["a text", "another"])

    Every method raises ServerUnavailable if no server answers, DeadlineExceeded
    if `timeout` seconds pass first, and ServerError if the server fails.
    """

    def __init__(
        self, address: str = _channel.DEFAULT_ADDRESS, *, round_robin: bool = False
    ) -> None:
        """Open a connection to `address`, host:port. Nothing is sent yet.

        With `round_robin`, connections to all servers that `address` names:
        several IP addresses, "10.0.0.1:8001,10.0.0.2:8001", or a name that has
        an address a server, "dns:///vecserve.example:8001". Each call, and each
        stream as a whole, then goes to the next of those that can be reached.
        Without it, all goes to the first that can.
        """
        self.address = address
        self._channel = grpc.insecure_channel(
            _channel.target(address), options=_channel.options(round_robin=round_robin)
        )
        self._stub = embedding_pb2_grpc.EmbeddingServiceStub(self._channel)
        self._models: dict[tuple[str, str | None], ModelInfo] = {}

    def close(self) -> None:
        """Close the connection; calls still open fail."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def models(self, *, timeout: float | None = None) -> list[ModelInfo]:
        """Return every version of every model, by name, then version."""
        try:
            response = self._stub.ListModels(embedding_pb2.ListModelsRequest(), timeout=timeout)
        except grpc.RpcError as error:
            raise errors.from_rpc(self.address, error) from error
        return [ModelInfo.from_proto(info) for info in response.models]

    def model(
        self, name: str, version: str | None = None, *, timeout: float | None = None
    ) -> ModelInfo:
        """Describe one model; without `version`, the latest one loaded.

        Raises ModelNotFound if the server has none of that name and version.
        """
        request = embedding_pb2.GetModelRequest(model=name, version=version or "")
        try:
            response = self._stub.GetModel(request, timeout=timeout)
        except grpc.RpcError as error:
            raise errors.from_rpc(self.address, error) from error
        return ModelInfo.from_proto(response.model)

    @overload
    def embed(
        self,
        model: str,
        items: Iterable[object],
        *,
        pooling: Literal["none"],
        **options: Unpack[EmbedOptions],
    ) -> list[FloatArray]: ...
    @overload
    def embed(
        self,
        model: str,
        items: Iterable[object],
        *,
        pooling: Literal["mean", "cls", "last"] | None = None,
        **options: Unpack[EmbedOptions],
    ) -> FloatArray: ...
    def embed(
        self,
        model: str,
        items: Iterable[object],
        *,
        pooling: Pooling | None = None,
        version: str | None = None,
        normalize: bool | None = None,
        truncation: Truncation | None = None,
        dtype: OutputType = "float32",
        timeout: float | None = None,
    ) -> FloatArray | list[FloatArray]:
        """Embed items, any number, and return one row an item, in the order given.

        An item is a str (a text), a pathlib.Path (a file), bytes (an encoded
        file), an Image, an Audio or a Pcm, a tuple (samples, rate in Hz), or a
        PIL image; an Item gives one of these a name for errors. A Path is read
        as text, image or audio by its suffix. Where neither suffix nor wrapper
        says what bytes are, they are the one kind of media the model takes.

        Options, where None is the model's own way:
        - version: of the model; None is the latest one loaded.
        - normalize: scale vectors to unit L2 length.
        - truncation: "end" embeds the beginning of an input that is too long
          (the default), "refuse" fails it.
        - pooling: how an item's positions become one vector. "none" keeps them
          apart.
        - dtype: "float32", or "float16" for half the bytes.
        - timeout: seconds for the whole call; None waits.

        Returns an array [items, dimensions] of `dtype`. A long audio is one row:
        the mean over all its windows. With pooling "none", a list of arrays
        [positions, dimensions], one an item; those of a long audio's windows
        follow each other. What the model offers is in `model(name)`.

        Raises EmbedError if any item fails, once all others are done: it lists
        the failures and holds the results. ModelNotFound; TypeError or ValueError
        for what is no item or no option.
        """
        check_many(items)
        info = self._describe(model, version, timeout)
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
        in_order = sorted(results, key=lambda result: result.index)
        if pooling == "none":
            return sequences_of(in_order, info)
        return rows_of(in_order, info, dtype)

    def embed_stream(
        self,
        model: str,
        items: Iterable[object],
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
    ) -> Generator[Result]:
        """Embed items as they come and yield a Result for each.

        Lazy at both ends: `items` may be endless, and at most `in_flight` of
        its items are taken and not yet yielded. It is consumed in a thread of
        its own, so results come while it waits for its next item. Results come
        in the order of the items, or with `ordered=False` as they are ready.

        An item that fails, its file or its model missing included, is a Result
        with an `error`; the stream goes on. An Item may name another model than
        the call: one stream carries several. Items and options are those of
        `embed`; `windows` says what becomes of an audio longer than the model's
        window: "pooled" one vector for all (the default), "each" one a window
        (the default with pooling "none").

        Leaving the loop, or `close()` on what this returns, cancels the call.

        Raises, once every result that arrived is yielded, whatever `items`
        raises; TypeError or ValueError for what is no item; ServerUnavailable,
        with the number of unanswered items, if the server goes away.
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

    def _stream(
        self, exchange: Exchange, items: Iterable[object], in_flight: int, timeout: float | None
    ) -> Generator[Result]:
        # Three threads: gRPC's own runs `send`, ours runs `read`, and the
        # caller's, here, hands out what they put into `arrivals`.
        arrivals: queue.SimpleQueue[_Arrival] = queue.SimpleQueue()
        slots = threading.Semaphore(in_flight)
        stopped = threading.Event()
        failure: list[BaseException] = []

        def send() -> Iterator[embedding_pb2.EmbedStreamRequest]:
            try:
                elements = iter(items)
                while slots.acquire() and not stopped.is_set():
                    try:
                        element = next(elements)
                    except StopIteration:
                        return
                    outcome = self._prepare(exchange, exchange.enter(element), timeout)
                    if isinstance(outcome, Result):
                        arrivals.put([outcome])
                    else:
                        yield outcome
            except GeneratorExit:
                raise
            except BaseException as error:
                failure.append(error)  # raised in the caller's thread once the rest is answered

        def read() -> None:
            try:
                for response in call:
                    arrivals.put(exchange.receive(response))
            except BaseException as error:
                arrivals.put(End(error))
            else:
                arrivals.put(End(None))

        call = self._stub.EmbedStream(send(), timeout=timeout)
        reader = threading.Thread(target=read, name="vecserve-read", daemon=True)
        reader.start()
        try:
            while not isinstance(arrival := arrivals.get(), End):
                for result in exchange.deliver(arrival):
                    slots.release()
                    yield result
            yield from exchange.rest()
            if failure:
                raise failure[0]
            exchange.check_end(self.address, arrival)
        finally:
            stopped.set()
            slots.release()
            call.cancel()
            reader.join()

    def _prepare(
        self, exchange: Exchange, entry: Entry, timeout: float | None
    ) -> embedding_pb2.EmbedStreamRequest | Result:
        info = None
        if entry.needs_model:
            try:
                info = self._describe(entry.result.model, entry.version, timeout)
            except errors.ModelNotFound as error:
                return exchange.refuse(entry, "NOT_FOUND", "MODEL_NOT_FOUND", str(error))
        return exchange.request(entry, info)

    def _describe(self, name: str, version: str | None, timeout: float | None) -> ModelInfo:
        """Return `model`'s answer, asked once."""
        key = (name, version or None)
        if key not in self._models:
            self._models[key] = self.model(name, version, timeout=timeout)
        return self._models[key]
