"""Conversion of vectors and errors to messages of vecserve.v1."""

from google.protobuf import duration_pb2

from vecserve.v1 import embedding_pb2
from vecserve_server.api.embedding.requests import DATA_TYPES, MAX_ITEM_ID_BYTES
from vecserve_server.api.rpc.status import to_status
from vecserve_server.errors import ServingError
from vecserve_server.modalities.encoding import Encoding, encode
from vecserve_server.modalities.rows import FinishedVector
from vecserve_server.serving.tower import Embedded
from vecserve_server.telemetry.timings import Timings
from vecserve_server.wording import cut


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
    """Return the answer to an item that has no vectors; of an id that is too long, what may be."""
    return embedding_pb2.ItemResult(
        item_id=cut(item_id, MAX_ITEM_ID_BYTES),
        error=to_status(error),
        timings=to_timings(timings),
        version=version,
    )


def to_result(
    item_id: str, embedded: Embedded, *, encoding: Encoding, timings: Timings, version: str
) -> embedding_pb2.ItemResult:
    """Return the answer to an item that has vectors."""
    return embedding_pb2.ItemResult(
        item_id=item_id,
        embedding=embedding_pb2.Embedding(
            vectors=[_vector(vector, encoding) for vector in embedded.vectors],
            token_count=embedded.token_count,
            truncated=embedded.truncated,
        ),
        timings=to_timings(timings),
        version=version,
    )


def _vector(vector: FinishedVector, encoding: Encoding) -> embedding_pb2.Vector:
    data, scale = encode(vector.values, encoding)
    message = embedding_pb2.Vector(
        data=data, shape=vector.values.shape, dtype=DATA_TYPES[encoding], scale=scale
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
