"""Model registry: the state of every name and version, and the model that answers for it."""

from dataclasses import dataclass
from enum import StrEnum

from vecserve_server.errors import ModelNotFound, ModelNotReady
from vecserve_server.reasons import Reason
from vecserve_server.repository.bundle import Bundle
from vecserve_server.repository.finder import Found
from vecserve_server.serving.bundle_model import BundleModel
from vecserve_server.serving.model import InService, ServedModel


class State(StrEnum):
    """Where a model is on its way. The names are Triton's."""

    LOADING = "LOADING"
    READY = "READY"
    UNLOADING = "UNLOADING"
    UNAVAILABLE = "UNAVAILABLE"


@dataclass(slots=True)
class ModelVersion:
    """One version of a model on disk, and what became of it.

    `service` is what answers while it is READY; `reason` says why nothing does
    once it is UNAVAILABLE.
    """

    found: Found
    state: State = State.LOADING
    reason: str = ""
    service: InService | None = None

    @property
    def number(self) -> int:
        """The version."""
        return int(self.found.version)

    @property
    def names(self) -> tuple[str, ...]:
        """What requests call it: a bundle also goes by each of its graphs."""
        if not isinstance(self.found, Bundle):
            return (self.found.name,)
        kinds = [tower.input.kind for tower in self.found.manifest.towers]
        return (self.found.name, *(f"{self.found.name}.{kind}" for kind in kinds))

    @property
    def bundle(self) -> Bundle:
        """What was found, of a version that `ModelRegistry.bundles` gave."""
        assert isinstance(self.found, Bundle)
        return self.found

    @property
    def gone(self) -> bool:
        """Whether it is out of service and no longer on disk either."""
        return self.state in (State.UNLOADING, State.UNAVAILABLE) and not self.found.folder.is_dir()

    def model(self, name: str) -> ServedModel:
        """Return the model that answers to `name`. Raises ModelNotReady."""
        self.refuse_unloaded()
        if self.service is None:
            raise ModelNotReady(
                Reason.MODEL_LOADING, f"model {name!r} is still loading; try again in a few seconds"
            )
        return self.service.models[name]

    def refuse_unloaded(self) -> None:
        """Raise ModelNotReady if it is out of service."""
        if self.state not in (State.LOADING, State.READY):
            why = self.reason or "is unloaded; load it again"
            raise ModelNotReady(Reason.MODEL_UNLOADED, f"model {self.found.name!r} {why}")


Table = dict[str, dict[int, ModelVersion]]


class ModelRegistry:
    """Every version that was found on disk, whatever its state. Lives on one event loop."""

    def __init__(self) -> None:
        # All that tensor requests can name, and of these the bundles' own names.
        self._versions: Table = {}
        self._bundles: Table = {}

    def put(self, version: ModelVersion) -> None:
        """Add one version under each of its names, in the place of the one that was there."""
        for table, names in self._tables(version):
            for name in names:
                table.setdefault(name, {})[version.number] = version

    def remove(self, version: ModelVersion) -> None:
        """Take one version out, if it is there."""
        for table, names in self._tables(version):
            for name in names:
                versions = table.get(name, {})
                if versions.get(version.number) is version:
                    del versions[version.number]
                if not versions:
                    table.pop(name, None)

    def all(self) -> list[ModelVersion]:
        """Every version once, by the model's name, then by number."""
        return [
            version
            for name in sorted(self._versions)
            for version in self.of(name)
            if version.found.name == name
        ]

    def of(self, name: str) -> list[ModelVersion]:
        """Return the versions that go by a name, oldest first."""
        versions = self._versions.get(name, {})
        return [versions[number] for number in sorted(versions)]

    def ready_versions(self, name: str) -> list[str]:
        """Return the versions that answer to a name, oldest first."""
        return [version.found.version for version in self.of(name) if version.state is State.READY]

    def served(self) -> list[ServedModel]:
        """Every model that answers, by name, then by version."""
        return [
            version.service.models[name]
            for name in sorted(self._versions)
            for version in self.of(name)
            if version.service
        ]

    def bundles(self) -> list[ModelVersion]:
        """Every version of a bundle that answers or will, by name, then by number."""
        return [
            version
            for version in self.all()
            if isinstance(version.found, Bundle) and version.state in (State.LOADING, State.READY)
        ]

    def find(self, name: str, version: str = "") -> ServedModel:
        """Return what answers to a name, in its latest READY version if none is named.

        Raises ModelNotFound, ModelNotReady.
        """
        return _select(self._versions, name, version).model(name)

    def find_bundle(self, name: str, version: str = "") -> BundleModel:
        """Return the bundle of a name, which takes raw items; otherwise like `find`."""
        model = self.find_bundle_version(name, version).model(name)
        assert isinstance(model, BundleModel)
        return model

    def find_bundle_version(self, name: str, version: str = "") -> ModelVersion:
        """Return what `find_bundle` would ask, READY or LOADING. Raises as it does."""
        if name in self._versions and name not in self._bundles:
            raise ModelNotFound(
                Reason.MODEL_NOT_FOUND,
                f"model {name!r} takes tensors only: call it by the Open Inference Protocol",
            )
        found = _select(self._bundles, name, version)
        found.refuse_unloaded()
        return found

    def _tables(self, version: ModelVersion) -> list[tuple[Table, tuple[str, ...]]]:
        tables = [(self._versions, version.names)]
        if isinstance(version.found, Bundle):
            tables.append((self._bundles, (version.found.name,)))
        return tables


def _select(table: Table, name: str, version: str) -> ModelVersion:
    """Return the version asked for, or else the latest READY one, or else the latest.

    Raises ModelNotFound.
    """
    versions = table.get(name, {})
    if version.isdecimal() and int(version) in versions:
        wanted = [versions[int(version)]]
    elif version and versions:
        known = ", ".join(map(str, sorted(versions)))
        raise ModelNotFound(
            Reason.VERSION_NOT_FOUND, f"model {name!r} has no version {version!r}; it has: {known}"
        )
    else:
        wanted = list(versions.values())
    ready = [one for one in wanted if one.state is State.READY]
    candidates = ready or [one for one in wanted if not one.gone]
    if candidates:
        return max(candidates, key=lambda one: one.number)
    known = ", ".join(
        sorted(
            other
            for other, those in table.items()
            if any(one.state in (State.LOADING, State.READY) for one in those.values())
        )
    )
    asked = f"no model {name!r}" if name else "the request names no model"
    raise ModelNotFound(Reason.MODEL_NOT_FOUND, f"{asked}; this server has: {known or 'none'}")
