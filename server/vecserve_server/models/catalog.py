"""What tensor requests can name: every loaded model, by name and version."""

from vecserve_server.errors import ModelNotReady
from vecserve_server.models.registry import Versions
from vecserve_server.serving.model import ServedModel


class Catalog(Versions[ServedModel]):
    """The models that answer, and why others do not."""

    def __init__(self) -> None:
        super().__init__()
        self._absent: dict[str, str] = {}

    def withdraw(self, name: str, version: str, why: str) -> None:
        """Take one version out, if it is there; `why` is for those who ask for it."""
        self.remove(name, version)
        if not self.versions_of(name):
            self._absent[name] = why

    def find(self, name: str, version: str = "") -> ServedModel:
        """Return a model, its latest version if none is named.

        Raises ModelNotFound, ModelNotReady.
        """
        if name in self._absent and not self.versions_of(name):
            raise ModelNotReady("MODEL_UNAVAILABLE", f"model {name!r} {self._absent[name]}")
        return super().find(name, version)
