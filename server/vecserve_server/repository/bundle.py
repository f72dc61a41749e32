"""Bundle reading, and the check that a bundle is whole."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from vecserve_server.repository.config import ModelConfig, read_config
from vecserve_server.repository.errors import BundleError
from vecserve_server.repository.lfs import refuse_pointer
from vecserve_server.repository.manifest import MANIFEST_FILE, Manifest, sha256_of


@dataclass(frozen=True, slots=True)
class Bundle:
    """A checked bundle: its folder, what its manifest says, and what its operator does."""

    folder: Path
    manifest: Manifest
    config: ModelConfig

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.manifest.name

    @property
    def version(self) -> str:
        """Its version."""
        return self.manifest.version


def read_bundle(folder: Path) -> Bundle:
    """Read a bundle's manifest and check the hash of every file it names.

    Raises BundleError if the manifest is invalid or for another folder, a file
    is missing or not the one that was exported, or its config.json is invalid.
    """
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST_FILE).read_bytes())
    except ValidationError as error:
        raise BundleError(
            f"this server cannot read {folder / MANIFEST_FILE}: export the model again; {error}"
        ) from error
    if (manifest.name, manifest.version) != (folder.parent.name, folder.name):
        raise BundleError(
            f"{folder} holds {manifest.name} version {manifest.version}: "
            "move it to the folder of that name and version"
        )
    named = {name for tower in manifest.towers for name in (tower.graph, *tower.input.files)}
    if unlisted := sorted(named - manifest.files.keys()):
        raise BundleError(f"{folder}: the manifest has no hash for {', '.join(unlisted)}")
    for name, expected in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise BundleError(f"{path} is missing: export the model again")
        if sha256_of(path) != expected:
            refuse_pointer(path)
            raise BundleError(
                f"{path} is not the file that was exported (its sha256 differs): "
                "export the model again"
            )
    return Bundle(folder, manifest, read_config(folder, ModelConfig))
