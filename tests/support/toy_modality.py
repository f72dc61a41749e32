"""A server with one modality more, added by nothing but this file: series of numbers.

Run it as `vecserve-server` is run. A series comes as text, "1 2 3", and its
vector is the series itself, filled up with zeros.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from vecserve_server.errors import InvalidItem
from vecserve_server.modalities.base import Fields, Modality
from vecserve_server.modalities.content import Content, Limits
from vecserve_server.modalities.registry import MODALITIES
from vecserve_server.modalities.rows import Prepared, Row
from vecserve_server.reasons import Reason
from vecserve_server.repository.manifest import Input


class SeriesInput(Input):
    """Up to `length` numbers. The graph takes `values`, float32 [batch, length]."""

    kind: Literal["series"] = "series"
    length: int = Field(gt=0)


@dataclass(frozen=True, slots=True)
class Series(Content):
    """Numbers, as text."""

    described = "a series"
    text: str


class SeriesModality(Modality[SeriesInput, Series]):
    """Turns a series into one row of `values`, float32 [length]."""

    fields: ClassVar[Fields] = {"text": Series}
    accepts = (Series,)

    def __init__(self, spec: SeriesInput, bundle_dir: Path, limits: Limits) -> None:
        self._length = spec.length

    @staticmethod
    def from_bytes(data: bytes) -> Series:
        """Return a series."""
        return Series(data.decode())

    @classmethod
    def describe(cls, spec: SeriesInput, limits: Limits) -> dict[str, Any]:
        """Return how many numbers it may have."""
        return {"max_tokens": spec.length}

    def blank_row(self, positions: int) -> Row:
        """Return zeros."""
        return self._row([])

    def probe_rows(self) -> list[Row]:
        """Return ones."""
        return [self._row([1.0])]

    def prepare(self, content: Series, *, refuse_truncation: bool) -> Prepared:
        """Read the numbers."""
        try:
            values = [float(word) for word in content.text.split()]
        except ValueError as error:
            raise InvalidItem(Reason.UNKNOWN_VALUE, f"the series is damaged: {error}") from error
        return Prepared((self._row(values[: self._length]),), truncated=len(values) > self._length)

    def _row(self, values: list[float]) -> Row:
        row = np.zeros(self._length, dtype=np.float32)
        row[: len(values)] = values
        return Row({"values": row})


MODALITIES[SeriesInput] = SeriesModality

if __name__ == "__main__":
    from vecserve_server.run import run

    run()
