"""Sources of `vecserve index`: what to embed, and how its record is named."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vecserve._extras import require_extra
from vecserve._items import modality_of_suffix
from vecserve.cli.inputs import STDIN, Inputs
from vecserve.models import ModelInfo
from vecserve.store.records import FIELDS

MAX_PATH_BYTES = 4096
"""Longest name of a record; the longest path of Linux."""
MAX_METADATA_BYTES = 60_000
"""Most metadata of a record, as JSON; Milvus takes 65,536 bytes."""
KEPT_TEXT = 8_000
"""Characters of a text that are kept beside its vector."""
TABLES = (".jsonl", ".parquet")
"""Suffixes of files whose rows are sources."""
_CHUNK_BYTES = 2**20
_ROWS_OF_BATCH = 256

OnFailure = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class Source:
    """One thing to embed."""

    content: str | Path
    path: str
    """Its name in the collection."""
    modality: str
    metadata: dict[str, Any] = field(default_factory=dict)

    def digest(self) -> str:
        """Return the SHA-256 of content and metadata, in hexadecimal; reads a file in pieces.

        Raises OSError if the file cannot be read.
        """
        metadata = json.dumps(self.metadata, sort_keys=True) if self.metadata else ""
        found = hashlib.sha256(metadata.encode())
        if isinstance(self.content, str):
            found.update(self.content.encode(errors="surrogatepass"))
            return found.hexdigest()
        with self.content.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                found.update(chunk)
        return found.hexdigest()


def sources(inputs: Inputs, model: ModelInfo, on_failure: OnFailure) -> Iterator[Source]:
    """Yield what there is to embed, in order.

    Of files: themselves, the rows of a table, the lines of stdin. Calls
    `on_failure(name, message)` for a row that holds nothing to embed. Raises MissingExtra
    for a .parquet without its extra.
    """
    for path in inputs.paths:
        if path == Path(STDIN):
            found = _lines(inputs, on_failure)
        elif path.suffix in TABLES:
            found = _rows(path, model, on_failure)
        else:
            found = iter([_file(path, model)])
        for source in found:
            if problem := _problem(source):
                on_failure(source.path.encode(errors="replace").decode(), problem)
            else:
                yield source


def roots(files: Sequence[str]) -> list[str]:
    """Return what --prune looks at: named files and folders, and the folders that globs start in.

    All absolute; the name of standard input for `-`.
    """
    found = []
    for name in files:
        if name == STDIN:
            found.append("stdin")
            continue
        fixed = Path(name)
        if not fixed.exists():
            while set(str(fixed)) & set("*?["):
                fixed = fixed.parent
        found.append(os.path.abspath(fixed))
    return found


def _file(path: Path, model: ModelInfo, metadata: dict[str, Any] | None = None) -> Source:
    modality = modality_of_suffix(path)
    if modality is None and len(model.modalities) == 1:
        modality = model.modalities[0].name
    return Source(path, os.path.abspath(path), modality or "unknown", metadata or {})


def _lines(inputs: Inputs, on_failure: OnFailure) -> Iterator[Source]:
    only_stdin = Inputs((), (Path(STDIN),), 0)
    for item in only_stdin.items(on_failure):
        assert isinstance(item.content, str)
        yield _text(item.content, "stdin", _short(item.content), {})


def _rows(path: Path, model: ModelInfo, on_failure: OnFailure) -> Iterator[Source]:
    name = os.path.abspath(path)
    rows = _lines_of(path) if path.suffix == ".jsonl" else _rows_of(path)
    try:
        for where, row in rows:
            try:
                yield _row(json.loads(row) if isinstance(row, bytes) else row, path, name, model)
            except (ValueError, TypeError) as error:
                on_failure(f"{path}, {where}", str(error))
    except OSError as error:
        on_failure(str(path), f"cannot read {path}: {error.strerror or error}")
    except ValueError as error:  # pyarrow's, of a damaged file
        on_failure(str(path), f"cannot read {path}: {error}")


def _lines_of(path: Path) -> Iterator[tuple[str, bytes]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield f"line {number}", line


def _rows_of(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the rows of a Parquet file, their nulls left out; what is no JSON becomes a string."""
    require_extra("pyarrow", "parquet", "Parquet")
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        number = 0
        for batch in file.iter_batches(_ROWS_OF_BATCH):
            for row in batch.to_pylist():
                number += 1
                present = {key: value for key, value in row.items() if value is not None}
                yield f"row {number}", json.loads(json.dumps(present, default=str))


def _row(row: Any, file: Path, name: str, model: ModelInfo) -> Source:
    if not isinstance(row, dict) or ("text" in row) == ("path" in row):
        raise ValueError('not an object with a "text" or a "path"')
    text, path, own = row.pop("text", None), row.pop("path", None), row.pop("id", None)
    if reserved := sorted(set(row) & set(FIELDS)):
        raise ValueError(f"{', '.join(reserved)}: a field of every record, take another name")
    if path is not None:
        return _file(file.parent / str(path), model, row if own is None else row | {"id": own})
    if not isinstance(text, str):
        raise TypeError('"text" is not a string')
    if own is None:
        return _text(text, name, _short(text + json.dumps(row, sort_keys=True)), row)
    return _text(text, name, str(own), row | {"id": own})


def _text(text: str, origin: str, own: str, metadata: dict[str, Any]) -> Source:
    return Source(text, f"{origin}#{own}", "text", metadata | {"text": text[:KEPT_TEXT]})


def _short(text: str) -> str:
    """Return a name for a text that has none: the same for the same text."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


def _problem(source: Source) -> str | None:
    """Return why no store can keep a record of this; None if one can."""
    try:
        if len(source.path.encode()) > MAX_PATH_BYTES:
            return f"its name has more than {MAX_PATH_BYTES} bytes"
        size = len(json.dumps(source.metadata, ensure_ascii=False).encode())
    except UnicodeEncodeError:
        return "its name or text is not valid Unicode"
    if size > MAX_METADATA_BYTES:
        return f"its metadata has {size:,} bytes, the most is {MAX_METADATA_BYTES:,}"
    return None
