"""Scheduling options of a job, and the batch limits of a queue."""

from collections.abc import Hashable
from dataclasses import dataclass
from enum import IntEnum

from vecserve_server.scheduling.deadline import NO_DEADLINE, Deadline


class Priority(IntEnum):
    """Who goes first: a person who waits, or a program that pours in work."""

    INTERACTIVE = 0
    BULK = 1


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """What a batch of one queue may hold, whatever its cost.

    `delay_s` is how long a job may be held back so that others join it.
    """

    max_rows: int
    max_positions: int
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class JobOptions:
    """On whose behalf a job waits, and how.

    Fairness is between peers, and between the callers of each, such as the streams of a
    connection; without a peer a caller is its own. `priority` None lets the scheduler choose.
    """

    caller: Hashable
    priority: Priority | None = None
    deadline: Deadline = NO_DEADLINE
    peer: Hashable = None
