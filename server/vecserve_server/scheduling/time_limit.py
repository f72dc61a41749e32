"""Time limit of a batch: far more than it should take, and yet an end."""

from dataclasses import dataclass

from vecserve_server.scheduling.cost_model import CostModel

# Of what the measurement at load predicts for a batch. Machines are busy, clocks throttled,
# and predictions of long rows are extrapolations.
_FACTOR = 20
# No batch is ended before this: a paused virtual machine may take seconds to come back.
_LEAST_S = 10.0
# Nor allowed more than this by default, however long the rows that a caller sends.
_MOST_S = 300.0
# For a run whose graph has not been measured, as at load.
_UNMEASURED_S = 60.0


@dataclass(frozen=True, slots=True)
class TimeLimit:
    """How long a batch may run, in seconds: `max_batch_s`, or what its cost model says if None."""

    max_batch_s: float | None = None

    @property
    def unmeasured_s(self) -> float:
        """Limit of a run at load."""
        return self.max_batch_s or _UNMEASURED_S

    def seconds(self, cost: CostModel, rows: int, positions: int) -> float:
        """Return the limit of a batch of `rows`, padded to `positions` each.

        By what was measured at load: batches that run until they are ended, or nearly, must not
        be the measure of the next ones.
        """
        if self.max_batch_s:
            return self.max_batch_s
        predicted_s = cost.first_seconds(rows, positions)
        return min(max(_FACTOR * predicted_s, _LEAST_S), _MOST_S)
