"""Output files of `vecserve embed`: JSON lines, .npy or Parquet.

Each writer holds a bounded number of rows. A file appears under its name only
when it is whole.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import typer

from vecserve._extras import require_extra
from vecserve._results import VectorArray
from vecserve.models import ModelInfo

ROW_GROUP_ROWS = 1024
"""Rows of a Parquet row group, the most a writer holds: 3 MiB of 768 float32."""


@dataclass(frozen=True, slots=True)
class Row:
    """One item that has a vector."""

    item: str
    """The file's path, or the text."""
    vector: VectorArray
    """float32 [dimensions]."""
    token_count: int
    truncated: bool


class Writer(Protocol):
    """Takes rows, one by one."""

    def write(self, row: Row) -> None:
        """Take a row."""

    def finish(self) -> None:
        """Write what is still held."""


def check_output(output: Path | None) -> Path | None:
    """Return `output`.

    Raises typer.BadParameter if nothing can be written there, and MissingExtra.
    """
    if output is None:
        return None
    if output.suffix not in (".jsonl", ".npy", ".parquet"):
        raise typer.BadParameter(f"{output} must end in .jsonl, .npy or .parquet")
    if not output.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {output.parent}: make it first")
    if output.suffix == ".parquet":
        require_extra("pyarrow", "parquet", "Parquet")
    return output


@contextmanager
def open_writer(output: Path | None, model: ModelInfo) -> Iterator[Writer]:
    """Give a writer for a checked `output`, by its suffix; None is JSON lines on stdout."""
    if output is None:
        yield JsonLines(sys.stdout.buffer, flush=True)
        return
    with ExitStack() as files:
        file = files.enter_context(_replacing(output))
        writer: Writer
        match output.suffix:
            case ".jsonl":
                writer = JsonLines(file)
            case ".npy":
                names = output.with_name(f"{output.name}.items.jsonl")
                writer = Npy(file, files.enter_context(_replacing(names)), model)
            case _:
                writer = Parquet(file, model)
        yield writer
        writer.finish()


class JsonLines:
    """One object a line: item, tokens, truncated, vector."""

    def __init__(self, file: IO[bytes], *, flush: bool = False) -> None:
        self._file = file
        self._flush = flush

    def write(self, row: Row) -> None:
        """Write a line."""
        head = json.dumps({"item": row.item, "tokens": row.token_count, "truncated": row.truncated})
        # 9 digits bring a float32 back exactly; json.dumps would write up to 20.
        numbers = ", ".join(format(number, ".9g") for number in row.vector.tolist())
        self._file.write(f'{head[:-1]}, "vector": [{numbers}]}}\n'.encode())
        if self._flush:
            self._file.flush()

    def finish(self) -> None:
        """Nothing is held."""


class Npy:
    """A float32 array [rows, dimensions], and a JSON line a row that names its item."""

    def __init__(self, file: IO[bytes], names: IO[bytes], model: ModelInfo) -> None:
        self._file = file
        self._names = names
        self._dimensions = model.dimensions
        self._rows = 0
        self._write_header()

    def write(self, row: Row) -> None:
        """Write a row."""
        self._file.write(row.vector.astype("<f4").tobytes())
        line = {"row": self._rows, "item": row.item, "truncated": row.truncated}
        self._names.write(json.dumps(line).encode() + b"\n")
        self._rows += 1

    def finish(self) -> None:
        """Write the header again, now that the number of rows is known."""
        self._file.seek(0)
        self._write_header()

    def _write_header(self) -> None:
        # numpy pads headers so that the first axis can grow in place.
        shape = (self._rows, self._dimensions)
        np.lib.format.write_array_header_1_0(
            self._file, {"descr": "<f4", "fortran_order": False, "shape": shape}
        )


class Parquet:
    """Columns item, tokens, truncated, vector; the model is in the file's metadata."""

    def __init__(self, file: IO[bytes], model: ModelInfo) -> None:
        # Here, not above: pyarrow is an extra, and slow to import.
        import pyarrow
        import pyarrow.parquet

        self._schema = pyarrow.schema(
            {
                "item": pyarrow.string(),
                "tokens": pyarrow.uint32(),
                "truncated": pyarrow.bool_(),
                "vector": pyarrow.list_(pyarrow.float32(), model.dimensions),
            },
            metadata={
                "vecserve.model": model.name,
                "vecserve.version": model.version,
                "vecserve.trained": json.dumps(model.trained),
            },
        )
        self._table = pyarrow.Table
        self._writer = pyarrow.parquet.ParquetWriter(file, self._schema)
        self._rows: list[dict[str, Any]] = []

    def write(self, row: Row) -> None:
        """Hold a row; write a row group when there are enough."""
        self._rows.append(
            {
                # A file's name may hold bytes that are no Unicode.
                "item": row.item.encode(errors="replace").decode(),
                "tokens": row.token_count,
                "truncated": row.truncated,
                "vector": row.vector,
            }
        )
        if len(self._rows) == ROW_GROUP_ROWS:
            self._write_group()

    def finish(self) -> None:
        """Write the last row group and the footer."""
        self._write_group()
        self._writer.close()

    def _write_group(self) -> None:
        if self._rows:
            self._writer.write_table(self._table.from_pylist(self._rows, schema=self._schema))
            self._rows.clear()


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """Give a file that takes `path`'s name if all goes well, and else is removed."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
