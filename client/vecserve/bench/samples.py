"""Samples of a round: times, items and error codes of its requests."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass(slots=True)
class Samples:
    """Requests of one round, in columns. Times are in seconds from its start.

    A request was to be sent at `intended_s`, was sent at `sent_s` and answered
    at `done_s`; `good` of its `items` have vectors. `errors` counts the other
    items by code. The measured time begins at `start_s`, if that is later than
    the end of the lead-in.
    """

    intended_s: list[float] = field(default_factory=list)
    sent_s: list[float] = field(default_factory=list)
    done_s: list[float] = field(default_factory=list)
    items: list[int] = field(default_factory=list)
    good: list[int] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    start_s: float = 0.0

    def add(
        self,
        intended_s: float,
        sent_s: float,
        done_s: float,
        items: int,
        codes: Sequence[str],
    ) -> None:
        """Record a request; `codes` are those of its items that failed."""
        self.intended_s.append(intended_s)
        self.sent_s.append(sent_s)
        self.done_s.append(done_s)
        self.items.append(items)
        self.good.append(items - len(codes))
        self.errors.update(codes)

    def join(self, other: "Samples") -> None:
        """Append another client's samples."""
        self.intended_s += other.intended_s
        self.sent_s += other.sent_s
        self.done_s += other.done_s
        self.items += other.items
        self.good += other.good
        self.errors += other.errors
        self.start_s = max(self.start_s, other.start_s)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """Return the samples that `to_json` wrote."""
        return cls(**{**fields, "errors": Counter(fields["errors"])})
