"""Timings of one item or request."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Timings:
    """Where one item's time went, in seconds; None where it was not reached.

    `batches` are those it rode in: when each started, of time.perf_counter(),
    and how many rows it had.
    """

    prepare_s: float | None = None
    queue_s: float | None = None
    compute_s: float | None = None
    batch_size: int = 0
    batches: dict[float, int] = field(default_factory=dict)
