"""Conversion of vecserve.v1 messages to our own values and back. Protobuf ends here."""

from collections.abc import Mapping
from typing import TypeVar

from google.protobuf import duration_pb2

from vecserve.v1 import embedding_pb2, model_pb2
from vecserve_server.api.rpc.caller import Caller
from vecserve_server.api.rpc.status import to_status
from vecserve_server.errors import InvalidItem, ServingError
from vecserve_server.modalities.content import Content
from vecserve_server.modalities.registry import content_fields
from vecserve_server.modalities.rows import FinishedVector
from vecserve_server.repository.manifest import Pooling
from vecserve_server.scheduling.options import JobOptions, Priority
from vecserve_server.serving.options import EmbedOptions
from vecserve_server.serving.tower import Embedded
from vecserve_server.telemetry.timings import Timings

T = TypeVar("T")
Enum = TypeVar("Enum", bound=int)

_POOLINGS = {
    model_pb2.POOLING_UNSPECIFIED: None,
    model_pb2.POOLING_NONE: Pooling.NONE,
    model_pb2.POOLING_MEAN: Pooling.MEAN,
    model_pb2.POOLING_CLS: Pooling.CLS,
    model_pb2.POOLING_LAST: Pooling.LAST,
}
POOLING_VALUES = {pooling: value for value, pooling in _POOLINGS.items() if pooling}
_REFUSE_TRUNCATION = {
    embedding_pb2.TRUNCATION_UNSPECIFIED: False,
    embedding_pb2.TRUNCATION_END: False,
    embedding_pb2.TRUNCATION_REFUSE: True,
}
_HALF_PRECISION = {
    embedding_pb2.DATA_TYPE_UNSPECIFIED: False,
    embedding_pb2.DATA_TYPE_FLOAT32: False,
    embedding_pb2.DATA_TYPE_FLOAT16: True,
}
_EACH_WINDOW = {
    embedding_pb2.WINDOWS_UNSPECIFIED: None,
    embedding_pb2.WINDOWS_EACH: True,
    embedding_pb2.WINDOWS_POOLED: False,
}
MAX_ITEM_ID_BYTES = 256
_CONTENTS = content_fields()


def to_content(item: embedding_pb2.Item) -> Content:
    """Return what an item holds. Raises InvalidItem if it holds nothing we know."""
    if len(item.item_id.encode()) > MAX_ITEM_ID_BYTES:
        raise InvalidItem("ITEM_ID_TOO_LONG", f"an item_id has at most {MAX_ITEM_ID_BYTES} bytes")
    field = item.WhichOneof("content")
    if field is None:
        raise InvalidItem("NO_CONTENT", f"the item is empty: set one of {', '.join(_CONTENTS)}")
    return _CONTENTS[field](getattr(item, field))


def to_options(options: embedding_pb2.EmbedOptions) -> EmbedOptions:
    """Return the options asked for. Raises InvalidItem for an enum value we do not know."""
    return EmbedOptions(
        normalize=options.normalize if options.HasField("normalize") else None,
        refuse_truncation=_value(_REFUSE_TRUNCATION, options.truncation, "truncation"),
        pooling=_value(_POOLINGS, options.pooling, "pooling"),
        half_precision=_value(_HALF_PRECISION, options.output_dtype, "output_dtype"),
        each_window=_value(_EACH_WINDOW, options.windows, "windows"),
    )


def _value(table: Mapping[Enum, T], value: Enum, name: str) -> T:
    if value not in table:
        raise InvalidItem(
            "UNKNOWN_VALUE", f"{name} has the value {value}; this server knows {sorted(table)}"
        )
    return table[value]


def to_timings(timings: Timings) -> embedding_pb2.Timings:
    """Return an item's timings as a message; what was not reached stays unset."""
    return embedding_pb2.Timings(
        prepare=_duration(timings.prepare_s),
        queue=_duration(timings.queue_s),
        compute=_duration(timings.compute_s),
        batch_size=timings.batch_size,
    )


def to_error_result(
    item_id: str, error: ServingError, timings: Timings, version: str
) -> embedding_pb2.ItemResult:
    """Return the answer to an item that has no vectors."""
    return embedding_pb2.ItemResult(
        item_id=item_id, error=to_status(error), timings=to_timings(timings), version=version
    )


def to_result(
    item_id: str, embedded: Embedded, *, half_precision: bool, timings: Timings, version: str
) -> embedding_pb2.ItemResult:
    """Return the answer to an item that has vectors."""
    return embedding_pb2.ItemResult(
        item_id=item_id,
        embedding=embedding_pb2.Embedding(
            vectors=[_vector(vector, half_precision) for vector in embedded.vectors],
            token_count=embedded.token_count,
            truncated=embedded.truncated,
        ),
        timings=to_timings(timings),
        version=version,
    )


def _vector(vector: FinishedVector, half_precision: bool) -> embedding_pb2.Vector:
    message = embedding_pb2.Vector(
        data=vector.values.astype("<f2" if half_precision else "<f4").tobytes(),
        shape=vector.values.shape,
        dtype=(
            embedding_pb2.DATA_TYPE_FLOAT16 if half_precision else embedding_pb2.DATA_TYPE_FLOAT32
        ),
    )
    if vector.span:
        message.span.CopyFrom(
            embedding_pb2.TimeSpan(
                start=_duration(vector.span.start_s), end=_duration(vector.span.end_s)
            )
        )
    return message


def _duration(seconds: float | None) -> duration_pb2.Duration | None:
    if seconds is None:
        return None
    nanos = round(seconds * 1e9)
    return duration_pb2.Duration(seconds=nanos // 10**9, nanos=nanos % 10**9)


_PRIORITIES = {
    embedding_pb2.PRIORITY_UNSPECIFIED: None,
    embedding_pb2.PRIORITY_INTERACTIVE: Priority.INTERACTIVE,
    embedding_pb2.PRIORITY_BULK: Priority.BULK,
}


def to_job_options(options: embedding_pb2.EmbedOptions, caller: Caller) -> JobOptions:
    """Return on what terms an item waits: the earlier of the RPC's deadline and its own timeout.

    Raises InvalidItem for a priority we do not know or a timeout that is not positive.
    """
    if options.priority not in _PRIORITIES:
        raise InvalidItem(
            "UNKNOWN_VALUE", f"priority has the value {options.priority}; this server knows 0 to 2"
        )
    timeout_s = options.timeout.ToNanoseconds() / 1e9 if options.HasField("timeout") else None
    if timeout_s is not None and timeout_s <= 0:
        raise InvalidItem("TIMEOUT_INVALID", f"timeout is {timeout_s} s: make it positive")
    return JobOptions(caller.name, _PRIORITIES[options.priority], caller.deadline.within(timeout_s))
