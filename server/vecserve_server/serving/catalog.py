"""What tensor requests can name: every loaded model, by name and version."""

from vecserve_server.errors import ModelNotFound, ModelNotReady
from vecserve_server.serving.served import ServedModel


class Catalog:
    """The models that answer, and why others do not."""

    def __init__(self) -> None:
        self._versions: dict[str, dict[int, ServedModel]] = {}
        self._absent: dict[str, str] = {}

    def put(self, model: ServedModel) -> None:
        """Add one version, in the place of the one that was there."""
        self._versions.setdefault(model.name, {})[int(model.version)] = model

    def remove(self, name: str, version: str, why: str) -> None:
        """Take one version out, if it is there; `why` is for those who ask for it."""
        versions = self._versions.get(name, {})
        versions.pop(int(version), None)
        if not versions:
            self._versions.pop(name, None)
            self._absent[name] = why

    def all(self) -> list[ServedModel]:
        """Every version of every model, by name, then version."""
        return [
            versions[number]
            for _, versions in sorted(self._versions.items())
            for number in sorted(versions)
        ]

    def versions_of(self, name: str) -> list[str]:
        """Return the versions of a model that answer."""
        return [str(number) for number in sorted(self._versions.get(name, {}))]

    def find(self, name: str, version: str = "") -> ServedModel:
        """Return a model, its latest version if none is named.

        Raises ModelNotFound, ModelNotReady.
        """
        versions = self._versions.get(name)
        if not versions:
            if name in self._absent:
                raise ModelNotReady("MODEL_UNAVAILABLE", f"model {name!r} {self._absent[name]}")
            known = ", ".join(sorted(self._versions)) or "none"
            wanted = f"no model {name!r}" if name else "the request names no model"
            raise ModelNotFound("MODEL_NOT_FOUND", f"{wanted}; this server has: {known}")
        if not version:
            return versions[max(versions)]
        if version.isdecimal() and int(version) in versions:
            return versions[int(version)]
        known = ", ".join(self.versions_of(name))
        raise ModelNotFound(
            "VERSION_NOT_FOUND", f"model {name!r} has no version {version!r}; it has: {known}"
        )
