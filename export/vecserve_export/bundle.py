"""Bundles on disk: lookup, and atomic writing."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from vecserve_server.repository.manifest import MANIFEST_FILE, Manifest, sha256_of

# The exporter makes one version of a model.
VERSION = "1"


def bundle_folder(repository: Path, name: str) -> Path:
    """Return where a model's bundle is, or would be."""
    return repository / name / VERSION


def find(repository: Path, name: str) -> Manifest | None:
    """Return the manifest of a bundle whose files are all there and unchanged, else None."""
    folder = bundle_folder(repository, name)
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST_FILE).read_bytes())
        whole = all(sha256_of(folder / file) == sha for file, sha in manifest.files.items())
    except (OSError, ValidationError):
        return None
    return manifest if whole else None


def size_bytes(repository: Path, name: str) -> int:
    """Return the size of a bundle."""
    return sum(path.stat().st_size for path in bundle_folder(repository, name).iterdir())


@contextlib.contextmanager
def staging(repository: Path, name: str) -> Iterator[Path]:
    """Yield an empty folder to write a bundle to; it becomes the bundle at the end.

    The folder's name starts with a dot, which no bundle's does, and is renamed
    as the last thing: a bundle is there whole or not at all. If the block
    raises, the folder is removed, and a bundle that was there stays.
    """
    repository.mkdir(parents=True, exist_ok=True)
    new, old = (repository / f".{name}.{os.getpid()}.{what}" for what in ("new", "old"))
    for leftover in (new, old):  # of a killed process that had our id
        shutil.rmtree(leftover, ignore_errors=True)
    new.mkdir()
    try:
        yield new
        target = bundle_folder(repository, name)
        target.parent.mkdir(exist_ok=True)
        if target.exists():
            target.rename(old)
        new.rename(target)
    finally:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a folder, by name."""
    return {path.name: sha256_of(path) for path in sorted(folder.iterdir())}
