"""Rows to a batch and back, and the rule that a bad row fails alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vecserve_server.engine.session import Array, Session
from vecserve_server.repository.manifest import Pooling, Tower

PAD_MASK = 0


@dataclass(frozen=True, slots=True)
class RowRequest:
    """One row to run: its feeds without the batch axis, and the output wanted of it."""

    feeds: dict[str, Array]
    positions: int
    output: str


class Engine:
    """Runs batches of rows of one tower. Thread-safe."""

    def __init__(self, session: Session, tower: Tower) -> None:
        self._session = session
        self._pads = {"attention_mask": PAD_MASK}
        if tower.input.kind == "text":
            self._pads["input_ids"] = tower.input.pad_id
        self._sequences = {
            output.name
            for output in tower.outputs
            if tower.input.kind == "text" and output.pooling is Pooling.NONE
        }

    def run(self, rows: Sequence[RowRequest]) -> list[Array | Exception]:
        """Run rows as one batch and return, a row each, its output or what went wrong.

        If the batch fails, every row is run alone, so that only the one at
        fault gets the error.
        """
        try:
            return list(self._run_together(rows))
        except Exception as error:
            if len(rows) == 1:
                return [error]
        return [self.run([row])[0] for row in rows]

    def _run_together(self, rows: Sequence[RowRequest]) -> list[Array]:
        names = sorted({row.output for row in rows})
        feeds = {
            name: _stack([row.feeds[name] for row in rows], self._pads.get(name))
            for name in rows[0].feeds
        }
        results = dict(zip(names, self._session.run(feeds, names), strict=True))
        return [
            # Padding is no part of the answer.
            results[row.output][index, : row.positions]
            if row.output in self._sequences
            else results[row.output][index]
            for index, row in enumerate(rows)
        ]


def _stack(arrays: Sequence[Array], pad: int | None) -> Array:
    """Stack arrays along a new first axis; with a pad value, 1-d ones of any length."""
    if pad is None:
        return np.stack(arrays)
    longest = max(len(array) for array in arrays)
    stacked = np.full((len(arrays), longest), pad, dtype=arrays[0].dtype)
    for index, array in enumerate(arrays):
        stacked[index, : len(array)] = array
    return stacked
