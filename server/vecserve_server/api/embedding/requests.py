"""Conversion of requests of vecserve.v1 to our own values. Protobuf ends here."""

from collections.abc import Mapping
from typing import TypeVar

from vecserve.v1 import embedding_pb2, model_pb2
from vecserve_server.api.rpc.caller import Caller
from vecserve_server.errors import InvalidItem
from vecserve_server.modalities.content import Content
from vecserve_server.modalities.encoding import Encoding
from vecserve_server.modalities.registry import content_fields
from vecserve_server.reasons import Reason
from vecserve_server.repository.manifest import Pooling
from vecserve_server.scheduling.options import JobOptions, Priority
from vecserve_server.serving.options import EmbedOptions

T = TypeVar("T")
Enum = TypeVar("Enum", bound=int)

_POOLINGS = {
    model_pb2.POOLING_UNSPECIFIED: None,
    model_pb2.POOLING_NONE: Pooling.NONE,
    model_pb2.POOLING_MEAN: Pooling.MEAN,
    model_pb2.POOLING_CLS: Pooling.CLS,
    model_pb2.POOLING_LAST: Pooling.LAST,
    model_pb2.POOLING_MAX: Pooling.MAX,
    model_pb2.POOLING_WEIGHTED_MEAN: Pooling.WEIGHTED_MEAN,
    model_pb2.POOLING_MEAN_SQRT_LEN: Pooling.MEAN_SQRT_LEN,
    model_pb2.POOLING_CONCATENATED: Pooling.CONCATENATED,
}
POOLING_VALUES = {pooling: value for value, pooling in _POOLINGS.items() if pooling}
_REFUSE_TRUNCATION = {
    embedding_pb2.TRUNCATION_UNSPECIFIED: False,
    embedding_pb2.TRUNCATION_END: False,
    embedding_pb2.TRUNCATION_REFUSE: True,
}
DATA_TYPES = {
    Encoding.FLOAT32: embedding_pb2.DATA_TYPE_FLOAT32,
    Encoding.FLOAT16: embedding_pb2.DATA_TYPE_FLOAT16,
    Encoding.INT8: embedding_pb2.DATA_TYPE_INT8,
    Encoding.UINT8: embedding_pb2.DATA_TYPE_UINT8,
    Encoding.BINARY: embedding_pb2.DATA_TYPE_BINARY,
}
_ENCODINGS = {
    embedding_pb2.DATA_TYPE_UNSPECIFIED: Encoding.FLOAT32,
    **{value: encoding for encoding, value in DATA_TYPES.items()},
}
_EACH_WINDOW = {
    embedding_pb2.WINDOWS_UNSPECIFIED: None,
    embedding_pb2.WINDOWS_EACH: True,
    embedding_pb2.WINDOWS_POOLED: False,
}
_PRIORITIES = {
    embedding_pb2.PRIORITY_UNSPECIFIED: None,
    embedding_pb2.PRIORITY_INTERACTIVE: Priority.INTERACTIVE,
    embedding_pb2.PRIORITY_BULK: Priority.BULK,
}
MAX_ITEM_ID_BYTES = 256
_CONTENTS = content_fields()


def to_content(item: embedding_pb2.Item) -> Content:
    """Return what an item holds. Raises InvalidItem if it holds nothing we know."""
    if len(item.item_id.encode()) > MAX_ITEM_ID_BYTES:
        raise InvalidItem(
            Reason.ITEM_ID_TOO_LONG, f"an item_id has at most {MAX_ITEM_ID_BYTES} bytes"
        )
    field = item.WhichOneof("content")
    if field is None:
        raise InvalidItem(
            Reason.NO_CONTENT, f"the item is empty: set one of {', '.join(_CONTENTS)}"
        )
    return _CONTENTS[field](getattr(item, field))


def to_options(options: embedding_pb2.EmbedOptions) -> EmbedOptions:
    """Return the options asked for. Raises InvalidItem for an enum value we do not know."""
    return EmbedOptions(
        normalize=options.normalize if options.HasField("normalize") else None,
        refuse_truncation=_value(_REFUSE_TRUNCATION, options.truncation, "truncation"),
        pooling=_value(_POOLINGS, options.pooling, "pooling"),
        encoding=_value(_ENCODINGS, options.output_dtype, "output_dtype"),
        each_window=_value(_EACH_WINDOW, options.windows, "windows"),
        input_type=options.input_type or None,
        prompt=options.prompt if options.HasField("prompt") else None,
        dimensions=options.dimensions or None,
        force_dimensions=options.force_dimensions,
        frames=options.frames or None,
    )


def _value(table: Mapping[Enum, T], value: Enum, name: str) -> T:
    if value not in table:
        raise InvalidItem(
            Reason.UNKNOWN_VALUE, f"{name} has the value {value}; this server knows {sorted(table)}"
        )
    return table[value]


def to_job_options(options: embedding_pb2.EmbedOptions, caller: Caller) -> JobOptions:
    """Return on what terms an item waits: the earlier of the RPC's deadline and its own timeout.

    Raises InvalidItem for a priority we do not know or a timeout that is not positive.
    """
    timeout_s = options.timeout.ToNanoseconds() / 1e9 if options.HasField("timeout") else None
    if timeout_s is not None and timeout_s <= 0:
        raise InvalidItem(Reason.TIMEOUT_INVALID, f"timeout is {timeout_s} s: make it positive")
    return JobOptions(
        caller.name,
        _value(_PRIORITIES, options.priority, "priority"),
        caller.deadline.within(timeout_s),
        caller.peer,
    )
