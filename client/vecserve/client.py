"""Client for threads."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable, Iterator
from types import TracebackType
from typing import Any, Literal, Self, Unpack, overload

import grpc

from vecserve import _channel, _options, errors
from vecserve._deadline import Deadline, Retries
from vecserve._items import check_many, named
from vecserve._options import EmbedOptions, OutputType, Pooling, StreamOptions, Truncation, Windows
from vecserve._results import Result, VectorArray, rows_of, sequences_of, windows_of
from vecserve._stream import IN_FLIGHT, End, Entry, Exchange
from vecserve.models import LOADING, ModelInfo
from vecserve.v1 import embedding_pb2, embedding_pb2_grpc

_Arrival = list[Result] | End


class Client:
    """A connection to one server. Threads may share it.

    Use it as a context manager, or call `close`:

        with Client("127.0.0.1:8001") as client:
            rows = client.embed("all-MiniLM-L6-v2", ["a text", "another"])

    Every method raises ServerUnavailable if no server answers, DeadlineExceeded
    if `timeout` seconds pass first, and ServerError if the server fails.

    A server that is starting is waited for. Until a first call was answered, a call
    with a `timeout` waits that long for the server to listen; any other raises
    ServerUnavailable at once. `embed` and `embed_stream` wait for a model that is loading: until
    `timeout`, or without one for 5 minutes, after which its items fail with the
    reason MODEL_LOADING.
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
        self._connected = False
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
        response = self._ask(self._stub.ListModels, embedding_pb2.ListModelsRequest(), timeout)
        return [ModelInfo.from_proto(info) for info in response.models]

    def model(
        self, name: str, version: str | None = None, *, timeout: float | None = None
    ) -> ModelInfo:
        """Describe one model; without `version`, the latest one loaded.

        Raises ModelNotFound if the server has none of that name and version.
        """
        request = embedding_pb2.GetModelRequest(model=name, version=version or "")
        response = self._ask(self._stub.GetModel, request, timeout)
        return ModelInfo.from_proto(response.model)

    @overload
    def embed(
        self,
        model: str,
        items: Iterable[object],
        *,
        pooling: Literal["none"],
        windows: Windows | None = None,
        **options: Unpack[EmbedOptions],
    ) -> list[VectorArray]: ...
    @overload
    def embed(
        self,
        model: str,
        items: Iterable[object],
        *,
        pooling: Literal["mean", "cls", "last"] | None = None,
        windows: Literal["each"],
        **options: Unpack[EmbedOptions],
    ) -> list[VectorArray]: ...
    @overload
    def embed(
        self,
        model: str,
        items: Iterable[object],
        *,
        pooling: Literal["mean", "cls", "last"] | None = None,
        windows: Literal["pooled"] | None = None,
        **options: Unpack[EmbedOptions],
    ) -> VectorArray: ...
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
        windows: Windows | None = None,
        input_type: str | None = None,
        prompt: str | None = None,
        dimensions: int | None = None,
        force_dimensions: bool = False,
        frames: int | None = None,
        timeout: float | None = None,
    ) -> VectorArray | list[VectorArray]:
        """Embed items, any number, and return one row an item, in the order given.

        An item is a str (a text), a pathlib.Path (a file), bytes (an encoded
        file), an Image, an Audio, a Video or a Pcm, a tuple (samples, rate in Hz), or a
        PIL image; an Item gives one of these a name for errors. A Path is read
        as text, image, audio or video by its suffix. Where neither suffix nor wrapper
        says what bytes are, they are the one kind of media the model takes.

        Options, where None is the model's own way:
        - version: of the model; None is the latest one loaded.
        - normalize: scale vectors to unit L2 length.
        - truncation: "end" embeds the beginning of an input that is too long
          (the default), "refuse" fails it.
        - pooling: how an item's positions become one vector. "none" keeps them
          apart.
        - dtype: "float32", or "float16" for half the bytes, "int8" or "uint8"
          for a quarter, "binary" for a bit a number: uint8 arrays of
          dimensions / 8, packed as sentence-transformers' "ubinary". Cosines of
          int8 vectors need nothing more; for their lengths see `Vector.scale`
          in the results of `embed_stream`.
        - windows: what becomes of an audio or video longer than the model's window.
          "pooled" gives one vector, the mean over all its positions (the
          default); "each" one a window (the default with pooling "none").
        - input_type: what texts are, one of the model's prompts: "query",
          "passage" and so on, as `model(name).modalities` lists them. E5, BGE,
          GTE, Nomic and others give poor vectors without.
        - prompt: what goes before each text in place of the model's prompts.
        - dimensions: keep that many numbers of a vector and scale it to unit
          length again, if the model was trained for it (Matryoshka), or
          `force_dimensions`.
        - frames: how many frames of a video a model for images embeds, those in the
          middle of so many equal parts of it. `windows` says what becomes of them:
          "pooled" gives the mean of their vectors (the default), "each" a vector a part.
        - timeout: seconds for the whole call; None sets no limit.

        Returns an array [items, dimensions] of `dtype`: one row an item, a long
        audio too. With windows "each", a list of arrays [windows, dimensions],
        one an item, in order of time; [1, dimensions] for what has no windows.
        With pooling "none", a list of arrays [positions, dimensions], one an
        item; the positions of a long audio's windows follow each other. What
        the model offers is in `model(name)`; the windows' times are in the
        results of `embed_stream`.

        Raises EmbedError if any item fails, once all others are done: it lists
        the failures and holds the results. ModelNotFound; TypeError or ValueError
        for what is no item or no option.
        """
        check_many(items)
        deadline = Deadline(timeout)
        info = self._describe(model, version, deadline)
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
        in_order = sorted(results, key=lambda result: result.index)
        if pooling == "none":
            return sequences_of(in_order, info)
        if windows == "each":
            return windows_of(in_order, info)
        return rows_of(in_order, info, dtype, dimensions)

    @overload
    def embed_stream(
        self, model: str | None, items: Iterable[object], **options: Unpack[StreamOptions]
    ) -> Generator[Result]: ...
    @overload
    def embed_stream(
        self, items: Iterable[object], /, **options: Unpack[StreamOptions]
    ) -> Generator[Result]: ...
    def embed_stream(
        self,
        model: str | Iterable[object] | None = None,
        items: Iterable[object] | None = None,
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
    ) -> Generator[Result]:
        """Embed items as they come and yield a Result for each.

        Lazy at both ends: `items` may be endless, and at most `in_flight` of
        its items are taken and not yet yielded. It is consumed in a thread of
        its own, so results come while it waits for its next item. Results come
        in the order of the items, or with `ordered=False` as they are ready.

        An item that fails, its file or its model missing included, is a Result
        with an `error`; the stream goes on. Items and options are those of
        `embed`. An Item may name another model than the call, so one stream
        carries several; where each names its own, the call need not:

            client.embed_stream([Item("a text", model="all-MiniLM-L6-v2"), ...])

        An item without a model then fails, with the reason NO_MODEL.

        Items whose model is loading are sent again once it is loaded; they count
        as in flight, and items of other models go on beside them.

        Leaving the loop, or `close()` on what this returns, cancels the call.

        Raises, once every result that arrived is yielded, whatever `items`
        raises; TypeError or ValueError for what is no item; ServerUnavailable,
        with the number of unanswered items, if the server goes away.
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

    def _stream(
        self, exchange: Exchange, items: Iterable[object], in_flight: int, timeout: float | None
    ) -> Generator[Result]:
        # Three threads: gRPC's own runs `send`, ours runs `read`, and the
        # caller's, here, hands out what they put into `arrivals`. Each call that
        # sends refused items again adds one of the first two.
        deadline = Deadline(timeout)
        retries = Retries(deadline)
        arrivals: queue.SimpleQueue[_Arrival] = queue.SimpleQueue()
        slots = threading.Semaphore(in_flight)
        stopped = threading.Event()
        failure: list[BaseException] = []
        calls: list[tuple[Any, threading.Thread]] = []

        def take() -> Iterator[Entry]:
            elements = iter(items)
            while slots.acquire() and not stopped.is_set():
                try:
                    element = next(elements)
                except StopIteration:
                    return
                yield exchange.enter(element)

        def send(entries: Iterable[Entry]) -> Iterator[embedding_pb2.EmbedStreamRequest]:
            try:
                for entry in entries:
                    outcome = self._prepare(exchange, entry, deadline)
                    if isinstance(outcome, Result):
                        arrivals.put([outcome])
                    else:
                        yield outcome
            except GeneratorExit:
                raise
            except BaseException as error:
                failure.append(error)  # raised in the caller's thread once the rest is answered

        def read(call: Iterable[embedding_pb2.EmbedStreamResponse]) -> None:
            try:
                for response in call:
                    self._connected = True
                    arrivals.put(exchange.receive(response))
            except BaseException as error:
                arrivals.put(End(error))
            else:
                arrivals.put(End(None))

        def begin(entries: Iterable[Entry]) -> None:
            call = self._stub.EmbedStream(send(entries), timeout=deadline.left_s)
            reader = threading.Thread(target=read, args=(call,), name="vecserve-read", daemon=True)
            calls.append((call, reader))
            reader.start()

        def arrive() -> _Arrival:
            while exchange.waiting:
                try:
                    return arrivals.get(timeout=retries.wait_s())
                except queue.Empty:
                    pass
                if retries.over:
                    return exchange.give_up() if timeout is None else End(TimeoutError())
                retries.tried()
                loaded = {m for m in exchange.awaited() if not self._is_loading(*m, deadline)}
                if loaded:
                    begin(exchange.again(loaded))
            return arrivals.get()

        self._connect(deadline)
        begin(take())
        end, ended = End(), 0
        try:
            while end.error is None and (ended < len(calls) or exchange.waiting):
                arrival = arrive()
                if isinstance(arrival, End):
                    end, ended = arrival, ended + 1
                    continue
                if arrival and not exchange.waiting:
                    retries.reset()
                for result in exchange.deliver(arrival):
                    slots.release()
                    yield result
            yield from exchange.rest()
            if failure:
                raise failure[0]
            exchange.check_end(self.address, end)
        finally:
            stopped.set()
            slots.release()
            for call, reader in calls:
                call.cancel()
                reader.join()

    def _prepare(
        self, exchange: Exchange, entry: Entry, deadline: Deadline
    ) -> embedding_pb2.EmbedStreamRequest | Result:
        info = None
        if entry.needs_model:
            try:
                info = self._describe(entry.result.model, entry.version, deadline)
            except errors.ModelNotFound as error:
                return exchange.refuse(entry, "NOT_FOUND", "MODEL_NOT_FOUND", str(error))
        return exchange.request(entry, info)

    def _describe(self, name: str, version: str | None, deadline: Deadline) -> ModelInfo:
        """Return `model`'s answer, asked once."""
        key = (name, version or None)
        if key not in self._models:
            self._models[key] = self.model(name, version, timeout=deadline.left_s)
        return self._models[key]

    def _is_loading(self, name: str, version: str, deadline: Deadline) -> bool:
        """Whether the server says so; False too where only an item's answer tells more."""
        try:
            return self.model(name, version, timeout=deadline.left_s).state == LOADING
        except errors.VecserveError:
            return False

    def _ask(self, method: Any, request: Any, timeout: float | None) -> Any:
        """Return the answer to a unary call."""
        deadline = Deadline(timeout)
        self._connect(deadline)
        try:
            response = method(request, timeout=deadline.left_s)
        except grpc.RpcError as error:
            raise errors.from_rpc(self.address, error) from error
        self._connected = True
        return response

    def _connect(self, deadline: Deadline) -> None:
        """Wait for the first connection, if there is a limit to that.

        Raises ServerUnavailable.
        """
        if self._connected or deadline.left_s is None:
            return
        ready = grpc.channel_ready_future(self._channel)
        try:
            ready.result(timeout=deadline.left_s)
        except grpc.FutureTimeoutError as error:
            raise errors.no_server(self.address) from error
        finally:
            ready.cancel()
        self._connected = True
