"""Anticipation: how many of those just answered are about to ask again.

A caller in a loop sends its next job as soon as it has its answer. A core that
starts on the first of them to be back leaves the others to the next batch, and
batches stay small for ever: the deceptive idleness of Iyer and Druschel
("Anticipatory scheduling", SOSP 2001), who let a disk wait for such a caller
instead, for as long as that is likely to be worth it.
"""

# How long callers are awaited: this share of what their batch took, and at most
# so many seconds. Where the cores that compute also carry the requests, that
# time is not lost: it goes into answering.
_PATIENCE = 0.4
_MAX_PATIENCE_S = 0.01
# Callers are awaited while this share of them came back in time of late; if it
# did not, they are after every so many batches, to see whether that has changed.
_MIN_SHARE = 0.6
_TRY_EVERY = 8
_SMOOTHING = 0.3


class Anticipation:
    """Watches the callers of one graph. Times are in seconds of the scheduler's clock."""

    def __init__(self) -> None:
        self._share = 1.0
        self._batches = 0
        self._awaits = False
        self._answered = 0
        self._came = 0
        self.until_s = 0.0
        """When the latest answered are awaited no longer."""

    def answered(self, rows: int, seconds: float, now_s: float) -> None:
        """Take note of a batch that ended and took `seconds`."""
        self._settle(now_s)
        self._batches += 1
        self._awaits |= self._share >= _MIN_SHARE or self._batches % _TRY_EVERY == 0
        self._answered += rows
        self.until_s = now_s + min(_PATIENCE * seconds, _MAX_PATIENCE_S)

    def came(self, rows: int, now_s: float) -> None:
        """Take note of rows that came."""
        self._settle(now_s)
        self._came += rows

    def expected(self, now_s: float) -> int:
        """Return how many rows to wait for, until `until_s` at most."""
        self._settle(now_s)
        return max(self._answered - self._came, 0) if self._awaits else 0

    def _settle(self, now_s: float) -> None:
        """Judge, once it is over, the time in which callers were awaited."""
        if now_s < self.until_s:
            return
        if self._awaits:
            share = min(self._came / self._answered, 1.0)
            self._share += _SMOOTHING * (share - self._share)
        self._awaits = False
        self._answered = self._came = 0
