"""The models of this server, by name and version."""

from collections.abc import Hashable
from dataclasses import dataclass, field

from vecserve_server.errors import InvalidItem, ModelNotFound, ModelNotReady
from vecserve_server.pipelines.base import Content, EncodedAudio, EncodedImage, PcmAudio, Text
from vecserve_server.repository.manifest import Manifest
from vecserve_server.serving.tower import LoadedTower

_KIND_OF = {Text: "text", EncodedImage: "image", EncodedAudio: "audio", PcmAudio: "audio"}


@dataclass(slots=True)
class Model:
    """One version of a model. `towers`, by modality, is empty until it is ready."""

    manifest: Manifest
    towers: dict[str, LoadedTower] = field(default_factory=dict)

    @property
    def ready(self) -> bool:
        """Whether it answers."""
        return bool(self.towers)

    def tower_for(self, content: Content) -> LoadedTower:
        """Return the tower that takes this kind of content.

        Raises InvalidItem if there is none.
        """
        kind = _KIND_OF[type(content)]
        if kind not in self.towers:
            raise InvalidItem(
                "WRONG_MODALITY",
                f"model {self.manifest.name!r} takes {' and '.join(self.towers)}, not {kind}",
            )
        return self.towers[kind]

    def refuse_if_full(self, items: int, caller: Hashable) -> None:
        """Raise if `items` more cannot be taken now: InvalidItem if never, else QueueFull."""
        for tower in self.towers.values():
            tower.graph.refuse_if_full(items, caller)


class Models:
    """Every model found in the repository, whatever its state."""

    def __init__(self) -> None:
        self._versions: dict[str, dict[int, Model]] = {}

    def add(self, model: Model) -> None:
        """Add one version, in the place of the one that was there."""
        versions = self._versions.setdefault(model.manifest.name, {})
        versions[int(model.manifest.version)] = model

    def remove(self, name: str, version: str) -> None:
        """Forget one version, if it is there."""
        versions = self._versions.get(name, {})
        versions.pop(int(version), None)
        if not versions:
            self._versions.pop(name, None)

    def all(self) -> list[Model]:
        """Every version of every model, by name, then version."""
        return [
            versions[number]
            for _, versions in sorted(self._versions.items())
            for number in sorted(versions)
        ]

    def find(self, name: str, version: str = "") -> Model:
        """Return a model; the latest version that is ready, or else the latest, if none is named.

        Raises ModelNotFound.
        """
        versions = self._versions.get(name)
        if not versions:
            known = ", ".join(sorted(self._versions)) or "none"
            wanted = f"no model {name!r}" if name else "the request names no model"
            raise ModelNotFound("MODEL_NOT_FOUND", f"{wanted}; this server has: {known}")
        if not version:
            return max(versions.items(), key=lambda item: (item[1].ready, item[0]))[1]
        if version.isdecimal() and int(version) in versions:
            return versions[int(version)]
        known = ", ".join(str(number) for number in sorted(versions))
        raise ModelNotFound(
            "VERSION_NOT_FOUND", f"model {name!r} has no version {version!r}; it has: {known}"
        )

    def find_ready(self, name: str, version: str = "") -> Model:
        """Return a model that answers. Raises ModelNotFound, ModelNotReady."""
        model = self.find(name, version)
        if not model.ready:
            raise ModelNotReady(
                "MODEL_LOADING", f"model {name!r} is still loading; try again in a few seconds"
            )
        return model
