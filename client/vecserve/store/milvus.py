"""Collections in Milvus: a local Milvus Lite database, a Milvus server or Zilliz Cloud.

Milvus Lite 3.2 runs in this process and is Milvus to pymilvus, but for this:

- It drops a collection's description and keeps its properties; we write both.
- One process at a time has a database open.
- A search right after upserts reads every segment: 1,200 ms of CPU at 30,000 vectors
  of 384. Flushed, released and loaded again it takes 20 ms, in later processes too.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from vecserve._extras import require_extra
from vecserve.store.base import Embedding, StoreError, check_embedding, hit_of, row_of
from vecserve.store.records import FIELDS, Hit, Known, Record

PATH_BYTES = 4096
"""Longest path kept; Linux allows no longer one."""

_PROPERTY = "vecserve.embedding"
_KNOWN = ["key", "path", "content", "windows"]
_PAGE_ROWS = 4000
"""Rows a query returns at once; a server gives 16,384 at most."""
_SEARCH_EF = 256
"""Candidates that a graph index keeps during a search: at 64, recall is lost."""
_GRPC_OPTIONS = {
    "grpc.keepalive_time_ms": 300_000,
    "grpc.keepalive_permit_without_calls": False,
}
"""pymilvus pings every 10 seconds; a server with gRPC's defaults, such as Milvus Lite's,
takes one in 5 minutes and ends the connection of a client that sends more."""
_NAME = "milvus"


class MilvusStore:
    """A collection of a Milvus database, by pymilvus' MilvusClient."""

    def __init__(
        self, uri: str, collection: str, *, token: str | None = None, local: bool = False
    ) -> None:
        """Connect. `local`: `uri` is the path of a Milvus Lite database, made if missing."""
        require_extra("pymilvus", _NAME, "Milvus")
        if local:
            require_extra("milvus_lite", _NAME, "a local Milvus database")
        # Here, not above: pymilvus is an extra, and takes a second to import.
        import pymilvus

        # It logs every failure with a traceback, and raises it as well.
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
        self._pymilvus = pymilvus
        self._place = f"collection {collection} of {uri}"
        self._uri = uri
        self._name = collection
        self._local = local
        self._written = False
        hint = ": another process may have it open" if local else ""
        with self._reporting(f"cannot open {uri}{hint}"):
            self._client = pymilvus.MilvusClient(
                uri, token=token or "", dedicated=True, grpc_options=_GRPC_OPTIONS
            )
        self._embedding = self._read_embedding()

    @property
    def embedding(self) -> Embedding | None:
        """How the vectors there were made; None if there is no such collection."""
        return self._embedding

    def ensure(self, embedding: Embedding) -> None:
        """Create the collection if it is missing; check it else."""
        if self._embedding is None:
            with self._reporting(f"cannot create {self._place}"):
                self._create(embedding)
            self._embedding = embedding
        check_embedding(self._place, self._embedding, embedding)

    def known(self, keys: Sequence[str] | None = None) -> Iterable[Known]:
        """Yield what is there of these keys, or of all."""
        with self._reporting(f"cannot read {self._place}"):
            for row in self._all() if keys is None else self._of(keys):
                yield Known(row["key"], row["path"], row["content"], row["windows"])

    def upsert(self, records: Sequence[Record]) -> None:
        """Write records."""
        assert self._embedding is not None
        rows = [record.metadata | row_of(record, self._embedding) for record in records]
        with self._reporting(f"cannot write to {self._place}"):
            self._client.upsert(self._name, rows)
        self._written = True

    def delete(self, keys: Sequence[str]) -> None:
        """Remove records."""
        with self._reporting(f"cannot delete from {self._place}"):
            for start in range(0, len(keys), _PAGE_ROWS):
                self._client.delete(self._name, ids=list(keys[start : start + _PAGE_ROWS]))
        self._written = True

    def search(
        self, vector: npt.NDArray[np.float32], top: int, where: str | None = None
    ) -> list[Hit]:
        """Return the nearest records."""
        with self._reporting(f"cannot search {self._place}"):
            [hits] = self._client.search(
                self._name,
                [vector.tolist()],
                limit=top,
                filter=where or "",
                output_fields=["*"],
                search_params={"params": {"ef": max(_SEARCH_EF, top)}},
            )
        return [_hit(hit) for hit in hits]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if self._written:
                with self._reporting(f"cannot flush {self._place}"):
                    self._client.flush(self._name)
                    # A server does this by itself, and has others who search meanwhile.
                    if self._local:
                        self._client.release_collection(self._name)
                        self._client.load_collection(self._name)
        finally:
            self._client.close()
            if self._local:
                from milvus_lite.server_manager import server_manager_instance

                # Else the database would stay locked until this process ends.
                server_manager_instance.release_server(self._uri)

    def _create(self, embedding: Embedding) -> None:
        kinds = self._pymilvus.DataType
        description = embedding.to_json()
        schema = self._client.create_schema(
            auto_id=False, enable_dynamic_field=True, description=description
        )
        schema.add_field("key", kinds.VARCHAR, is_primary=True, max_length=64)
        schema.add_field("vector", kinds.FLOAT_VECTOR, dim=embedding.dimensions)
        schema.add_field("path", kinds.VARCHAR, max_length=PATH_BYTES)
        for name in ("modality", "content", "model", "model_version"):
            schema.add_field(name, kinds.VARCHAR, max_length=256)
        for name in ("window", "windows"):
            schema.add_field(name, kinds.INT64)
        for name in ("start_s", "end_s"):
            schema.add_field(name, kinds.DOUBLE, nullable=True)
        indexes = self._client.prepare_index_params()
        indexes.add_index("vector", index_type="AUTOINDEX", metric_type=embedding.metric.upper())
        self._client.create_collection(
            self._name,
            schema=schema,
            index_params=indexes,
            consistency_level="Strong",
            properties={_PROPERTY: description},
        )

    def _read_embedding(self) -> Embedding | None:
        with self._reporting(f"cannot read {self._place}"):
            if not self._client.has_collection(self._name):
                return None
            found = self._client.describe_collection(self._name)
            # In a new process a Milvus Lite collection is released.
            self._client.load_collection(self._name)
        for text in (found["properties"].get(_PROPERTY), found["description"]):
            if text and (embedding := Embedding.from_json(text)):
                return embedding
        raise StoreError(f"{self._place} was not made by vecserve: take another --collection")

    def _of(self, keys: Sequence[str]) -> Iterator[dict[str, Any]]:
        for start in range(0, len(keys), _PAGE_ROWS):
            page = list(keys[start : start + _PAGE_ROWS])
            yield from self._client.query(self._name, ids=page, output_fields=_KNOWN)

    def _all(self) -> Iterator[dict[str, Any]]:
        pages = self._client.query_iterator(self._name, batch_size=_PAGE_ROWS, output_fields=_KNOWN)
        try:
            while page := pages.next():
                yield from page
        finally:
            pages.close()

    @contextmanager
    def _reporting(self, what: str) -> Iterator[None]:
        try:
            yield
        except self._pymilvus.MilvusException as error:
            raise StoreError(f"{what}: {error.message or error}") from error


def _hit(hit: Any) -> Hit:
    row = dict(hit["entity"])
    # Milvus Lite hands dynamic fields out as they were written; a server may as JSON text.
    more = row.pop("$meta", None)
    if more:
        row |= json.loads(more) if isinstance(more, str | bytes) else more
    metadata = {name: value for name, value in row.items() if name not in FIELDS}
    return hit_of(float(hit["distance"]), row, metadata)
