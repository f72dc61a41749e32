"""Deadline of a call, and the retries of what a loading model refused."""

from __future__ import annotations

import math
from random import uniform
from time import monotonic

LOADING_TIMEOUT_S = 300.0
"""How long a call without a timeout of its own waits for a model that is loading: 25
times what our four models together take on two cores (11.5 s), so that it ends in an
error only where something is wrong."""

_FIRST_PAUSE_S = 0.1
"""Pause before the first retry: the smallest of our models loads in 0.8 s."""

_LONGEST_PAUSE_S = 2.0
"""Pauses double up to this. A retry asks for the model's state, which costs next to nothing."""

_SHORTEST_SHARE = 0.5
"""A pause is a random share of its length, at least this, so that clients spread out."""


class Deadline:
    """A point in time, `timeout` seconds after it is made; never for None."""

    def __init__(self, timeout: float | None) -> None:
        self._end_s = math.inf if timeout is None else monotonic() + timeout

    @property
    def left_s(self) -> float | None:
        """Seconds until then, at least 0; None if there is no end. What gRPC's `timeout` takes."""
        return None if self._end_s == math.inf else max(0.0, self._end_s - monotonic())

    @property
    def passed(self) -> bool:
        """Whether it is past that."""
        return monotonic() >= self._end_s


class Retries:
    """When to send again what was refused because its model is loading.

    Pauses grow from 0.1 s to 2 s. They end with the deadline, or, where it has none,
    LOADING_TIMEOUT_S after the first.
    """

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        self._end: Deadline | None = None
        self._next = Deadline(0)
        self._pause_s = _FIRST_PAUSE_S

    def reset(self) -> None:
        """Begin anew at the next refusal: something was answered."""
        self._end = None

    def wait_s(self) -> float:
        """Return the seconds until the next retry, or until it is too late for one."""
        if self._end is None:
            left_s = self._deadline.left_s
            self._end = Deadline(LOADING_TIMEOUT_S if left_s is None else left_s)
            self._pause_s = _FIRST_PAUSE_S
            self.tried()
        return min(self._next.left_s or 0.0, self._end.left_s or 0.0)

    def tried(self) -> None:
        """Plan the next retry."""
        self._next = Deadline(self._pause_s * uniform(_SHORTEST_SHARE, 1))
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)

    @property
    def over(self) -> bool:
        """Whether it is too late for a retry."""
        return self._end is not None and self._end.passed
