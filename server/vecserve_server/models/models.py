"""The models of this server, by name and version."""

from collections.abc import Hashable
from dataclasses import dataclass, field

from vecserve_server.errors import InvalidItem, ModelNotReady
from vecserve_server.modalities.content import Content, EncodedAudio, EncodedImage, PcmAudio, Text
from vecserve_server.models.registry import Versions
from vecserve_server.repository.manifest import Manifest
from vecserve_server.serving.tower import LoadedTower

_KIND_OF = {Text: "text", EncodedImage: "image", EncodedAudio: "audio", PcmAudio: "audio"}


@dataclass(slots=True)
class Model:
    """One version of a model. `towers`, by modality, is empty until it is ready."""

    manifest: Manifest
    towers: dict[str, LoadedTower] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its name."""
        return self.manifest.name

    @property
    def version(self) -> str:
        """Its version, a decimal number."""
        return self.manifest.version

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


class Models(Versions[Model]):
    """Every model found in the repository, whatever its state."""

    def __init__(self) -> None:
        super().__init__(answers=lambda model: model.ready)

    def find_ready(self, name: str, version: str = "") -> Model:
        """Return a model that answers. Raises ModelNotFound, ModelNotReady."""
        model = self.find(name, version)
        if not model.ready:
            raise ModelNotReady(
                "MODEL_LOADING", f"model {name!r} is still loading; try again in a few seconds"
            )
        return model
