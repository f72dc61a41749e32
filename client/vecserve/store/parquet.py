"""Collections in Parquet files, searched exactly with numpy.

A collection is a folder: `embedding.json`, and numbered parts, one an upsert. Where
two parts have a record of one key, the later part's is the record. Files appear
under their names only when they are whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from vecserve._extras import require_extra
from vecserve.store.base import Embedding, StoreError, check_embedding, hit_of, row_of
from vecserve.store.filters import parse_filter
from vecserve.store.records import Hit, Known, Record

_DESCRIPTION = "embedding.json"


class ParquetStore:
    """A collection as a folder of Parquet files below `folder`."""

    def __init__(self, folder: Path, collection: str) -> None:
        require_extra("pyarrow", "parquet", "Parquet")
        # Here, not above: pyarrow is an extra, and slow to import.
        import pyarrow
        import pyarrow.parquet

        self._arrow = pyarrow
        self._files = pyarrow.parquet
        if not collection or collection != Path(collection).name:
            raise StoreError(f"{collection!r} is no name for a collection")
        self._folder = folder / collection
        self._embedding = self._read_embedding()
        self._known: dict[str, Known] = {}
        self._part_of: dict[str, Path] = {}
        self._outdated: set[Path] = set()
        self._next = 0
        self._read_parts()

    @property
    def embedding(self) -> Embedding | None:
        """How the vectors there were made; None if there is no such collection."""
        return self._embedding

    def ensure(self, embedding: Embedding) -> None:
        """Create the collection if it is missing; check it else."""
        if self._embedding is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            file = self._folder / _DESCRIPTION
            partial = file.with_suffix(".partial")
            partial.write_text(embedding.to_json(), encoding="utf-8")
            partial.replace(file)
            self._embedding = embedding
        check_embedding(str(self._folder), self._embedding, embedding)
        # An upsert that was killed leaves them: a delete would bring their records back.
        for part in self._outdated:
            self._keep(part)
        self._outdated.clear()

    def known(self, keys: Sequence[str] | None = None) -> Iterable[Known]:
        """Return what is there of these keys, or of all."""
        if keys is None:
            return list(self._known.values())
        return [self._known[key] for key in keys if key in self._known]

    def upsert(self, records: Sequence[Record]) -> None:
        """Write records as one more part."""
        if not records:
            return
        table = self._table(records)
        replaced = {self._part_of[r.key] for r in records if r.key in self._part_of}
        part = self._folder / f"part-{self._next:08}.parquet"
        self._write(table, part)
        self._next += 1
        for record in records:
            self._known[record.key] = Known(record.key, record.path, record.content, record.windows)
            self._part_of[record.key] = part
        for old in replaced:
            self._keep(old)

    def delete(self, keys: Sequence[str]) -> None:
        """Remove records."""
        parts = {self._part_of.pop(key) for key in keys if self._known.pop(key, None)}
        for part in parts:
            self._keep(part)

    def search(
        self, vector: npt.NDArray[np.float32], top: int, where: str | None = None
    ) -> list[Hit]:
        """Return the nearest records, by comparison with every one."""
        assert self._embedding is not None
        condition = parse_filter(where) if where else None
        found: list[tuple[float, dict[str, Any], dict[str, Any]]] = []
        for part in self._parts():
            table = self._files.read_table(part)
            scores = self._scores(table, vector)
            for row_number in np.argsort(-scores, kind="stable").tolist():
                if len(found) >= top and scores[row_number] <= found[-1][0]:
                    break
                row = table.slice(row_number, 1).drop_columns("vector").to_pylist()[0]
                metadata = json.loads(row.pop("metadata"))
                if self._part_of.get(row["key"]) != part:
                    continue
                if condition is None or condition(metadata | row):
                    found.append((float(scores[row_number]), row, metadata))
                    found.sort(key=lambda entry: -entry[0])
                    del found[top:]
        sign = -1.0 if self._embedding.metric == "l2" else 1.0
        return [hit_of(sign * score, row, metadata) for score, row, metadata in found]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing is held."""

    def _scores(self, table: Any, query: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return how near each row is, [rows]: larger is nearer."""
        assert self._embedding is not None
        numbers = table["vector"].combine_chunks().flatten().to_numpy()
        vectors = numbers.reshape(-1, self._embedding.dimensions)
        if self._embedding.metric == "l2":
            # Milvus gives the square, too.
            return -np.asarray(((vectors - query) ** 2).sum(axis=1), np.float32)
        scores = vectors @ query
        if self._embedding.metric == "cosine":
            lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(query)
            scores = scores / np.maximum(lengths, 1e-12)
        return np.asarray(scores, np.float32)

    def _table(self, records: Sequence[Record]) -> Any:
        assert self._embedding is not None
        arrow, embedding = self._arrow, self._embedding
        text, count, seconds = arrow.string(), arrow.int64(), arrow.float64()
        schema = arrow.schema(
            {
                "key": text,
                "vector": arrow.list_(arrow.float32(), embedding.dimensions),
                "path": text,
                "modality": text,
                "content": text,
                "model": text,
                "model_version": text,
                "window": count,
                "windows": count,
                "start_s": seconds,
                "end_s": seconds,
                "metadata": text,
            }
        )
        return arrow.Table.from_pylist(
            [
                row_of(record, embedding) | {"metadata": json.dumps(record.metadata)}
                for record in records
            ],
            schema=schema,
        )

    def _keep(self, part: Path) -> None:
        """Rewrite a part with only those of its records that still stand."""
        table = self._files.read_table(part)
        wanted = [self._part_of.get(key) == part for key in table["key"].to_pylist()]
        if any(wanted):
            self._write(table.filter(self._arrow.array(wanted)), part)
        else:
            part.unlink()

    def _write(self, table: Any, part: Path) -> None:
        partial = part.with_suffix(".partial")
        with partial.open("wb") as file:
            self._files.write_table(table, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(part)

    def _parts(self) -> list[Path]:
        return sorted(self._folder.glob("part-*.parquet"))

    def _read_parts(self) -> None:
        for part in self._parts():
            columns = ["key", "path", "content", "windows"]
            for row in self._files.read_table(part, columns=columns).to_pylist():
                if row["key"] in self._part_of:
                    self._outdated.add(self._part_of[row["key"]])
                self._known[row["key"]] = Known(**row)
                self._part_of[row["key"]] = part
            self._next = int(part.stem.removeprefix("part-")) + 1

    def _read_embedding(self) -> Embedding | None:
        file = self._folder / _DESCRIPTION
        if not file.exists():
            return None
        embedding = Embedding.from_json(file.read_text(encoding="utf-8"))
        if embedding is None:
            raise StoreError(f"{file} was not made by vecserve: take another --collection")
        return embedding
