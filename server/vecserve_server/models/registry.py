"""Models by name and version, and what a request that names one means."""

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from vecserve_server.errors import ModelNotFound


class Versioned(Protocol):
    """One version of a model; `version` is a decimal number."""

    @property
    def name(self) -> str:
        """Name of the model."""
        ...

    @property
    def version(self) -> str:
        """Its version."""
        ...


V = TypeVar("V", bound=Versioned)


class Versions(Generic[V]):
    """Models by name and version.

    Who names no version gets the latest of those that `answers` holds for, or
    else the latest.
    """

    def __init__(self, answers: Callable[[V], bool] = lambda _: True) -> None:
        self._answers = answers
        self._versions: dict[str, dict[int, V]] = {}

    def put(self, model: V) -> None:
        """Add one version, in the place of the one that was there."""
        self._versions.setdefault(model.name, {})[int(model.version)] = model

    def remove(self, name: str, version: str) -> None:
        """Take one version out, if it is there."""
        versions = self._versions.get(name, {})
        versions.pop(int(version), None)
        if not versions:
            self._versions.pop(name, None)

    def all(self) -> list[V]:
        """Every version of every model, by name, then version."""
        return [
            versions[number]
            for _, versions in sorted(self._versions.items())
            for number in sorted(versions)
        ]

    def versions_of(self, name: str) -> list[str]:
        """Return the versions of a model that are here."""
        return [str(number) for number in sorted(self._versions.get(name, {}))]

    def find(self, name: str, version: str = "") -> V:
        """Return a model. Raises ModelNotFound."""
        versions = self._versions.get(name)
        if not versions:
            known = ", ".join(sorted(self._versions)) or "none"
            wanted = f"no model {name!r}" if name else "the request names no model"
            raise ModelNotFound("MODEL_NOT_FOUND", f"{wanted}; this server has: {known}")
        if not version:
            return max(versions.items(), key=lambda item: (self._answers(item[1]), item[0]))[1]
        if version.isdecimal() and int(version) in versions:
            return versions[int(version)]
        known = ", ".join(self.versions_of(name))
        raise ModelNotFound(
            "VERSION_NOT_FOUND", f"model {name!r} has no version {version!r}; it has: {known}"
        )
