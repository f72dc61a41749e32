"""Wire protocol of the typed API: texts and files sent, vectors or errors read."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from google.rpc import code_pb2

from vecserve import _channel
from vecserve._items import encode, modality_of_suffix
from vecserve.bench.load import Load
from vecserve.bench.targets import BenchError, Target
from vecserve.bench.wire import Message, StreamOutcome
from vecserve.bench.workload import texts
from vecserve.client import Client
from vecserve.errors import VecserveError
from vecserve.models import ModelInfo
from vecserve.v1 import embedding_pb2 as pb

_SERVICE = "/vecserve.v1.EmbeddingService"


class TypedWire:
    """Encodes a load for `Embed` and `EmbedStream`."""

    unary_path = f"{_SERVICE}/Embed"
    stream_path = f"{_SERVICE}/EmbedStream"
    channel_options: Sequence[tuple[str, int]] = _channel.OPTIONS

    def __init__(self, target: Target) -> None:
        """Read the models' description from the server. Raises BenchError."""
        try:
            with Client(target.address) as client:
                self._models = [client.model(name) for name in target.models]
        except VecserveError as error:
            raise BenchError(f"target {target.name}: {error}") from error
        self.untrained = [model.name for model in self._models if not model.trained]

    def encode(self, load: Load) -> list[Message]:
        """Return the load's messages, models alternating. Raises BenchError."""
        count = load.pool * load.items
        pools = {model.name: _contents(model, load, count) for model in self._models}
        options = pb.EmbedOptions()
        if load.stream and load.sent_timeout_s is not None:
            options.timeout.FromNanoseconds(int(load.sent_timeout_s * 1e9))
        messages = []
        for number in range(load.pool):
            model = self._models[number % len(self._models)]
            first = number * load.items
            items = pools[model.name][first : first + load.items]
            for position, item in enumerate(items):
                item.item_id = f"{number}.{position}"
            form = pb.EmbedStreamRequest if load.stream else pb.EmbedRequest
            request = form(model=model.name, items=items, options=options)
            messages.append(Message(number, request.SerializeToString(), load.items))
        return messages

    def read(self, answer: bytes) -> list[str | None]:
        """Return None or the error's code, for each item."""
        return [_code(result) for result in pb.EmbedResponse.FromString(answer).results]

    def read_stream(self, answer: bytes) -> Iterator[StreamOutcome]:
        """Yield the outcome of each item that a message of the stream answers."""
        for result in pb.EmbedStreamResponse.FromString(answer).results:
            if not result.continues:
                yield StreamOutcome(int(result.item_id.partition(".")[0]), 1, _code(result))


def _contents(model: ModelInfo, load: Load, count: int) -> list[pb.Item]:
    """Return the files that the model takes, repeated, or else texts."""
    paths = [Path(name) for name in load.files]
    fitting = [encode(path, model) for path in paths if model.takes(modality_of_suffix(path) or "")]
    if fitting:
        return [_copy(fitting, number) for number in range(count)]
    if not model.takes("text"):
        raise BenchError(f"{model.name} takes no text: give it what it takes with --file")
    return [pb.Item(text=text) for text in texts(load, count)]


def _copy(items: Sequence[pb.Item], number: int) -> pb.Item:
    item = pb.Item()
    item.CopyFrom(items[number % len(items)])
    return item


def _code(result: pb.ItemResult) -> str | None:
    if result.WhichOneof("outcome") == "embedding":
        return None
    return str(code_pb2.Code.Name(result.error.code))
