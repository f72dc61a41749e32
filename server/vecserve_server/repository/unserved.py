"""Unserved models: what looks like a model in a repository, is not served, and what to do.

Whoever comes from another server, or copies a checkpoint, has their files in a place that this
one does not look at; without a word the model would just not be there.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vecserve_server.repository.manifest import MANIFEST_FILE
from vecserve_server.repository.onnx_file import GRAPH_FILE, TRITON_CONFIG_FILE

VERSION = re.compile(r"[1-9][0-9]*")
_TRITONS_FILENAME = re.compile(r'^\s*default_model_filename\s*:\s*"([^"]*)"', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Unserved:
    """A folder that is not served as it lies there. `reason` says why, and what to do.

    `name` and `version` are what it would be called, "" where it has no version.
    """

    name: str
    version: str
    reason: str


def is_servable(version: Path) -> bool:
    """Whether a folder `<model>/<version>` is one that the server reads."""
    named = VERSION.fullmatch(version.name) is not None
    return named and ((version / MANIFEST_FILE).is_file() or (version / GRAPH_FILE).is_file())


def find_unserved(repository: Path) -> list[Unserved]:
    """Return what looks like a model and does not lie where models are read, sorted."""
    found: list[Unserved] = []
    for path in _visible(repository):
        if path.is_dir():
            found += _in_model(repository, path)
        elif path.suffix == ".onnx":
            found.append(_of_file(path, repository / path.stem, repository))
        elif path.name == MANIFEST_FILE:
            reason = f"{repository} is itself a bundle: name the folder two levels up"
            found.append(Unserved(repository.name, "", f"{reason} with --repository"))
    return found


def _in_model(repository: Path, model: Path) -> Iterator[Unserved]:
    """Yield what is wrong in `<repository>/<model>`."""
    inside = _visible(model)
    graphs = [path for path in inside if path.suffix == ".onnx" and not path.is_dir()]
    if model / MANIFEST_FILE in inside or (graphs and VERSION.fullmatch(model.name)):
        reason = f"{model} is a version of a model: name the folder above {repository}"
        yield Unserved(repository.name, model.name, f"{reason} with --repository")
        return
    for path in graphs:
        yield _of_file(path, model, repository)
    versions = [path for path in inside if path.is_dir()]
    for version in versions:
        if why := _of_version(repository, model, version):
            yield Unserved(model.name, version.name, why)
    if TRITON_CONFIG_FILE in [path.name for path in inside] and not graphs:
        numbered = [path for path in versions if VERSION.fullmatch(path.name)]
        if not any(_visible(version) for version in numbered):
            reason = (
                f"{model} has a {TRITON_CONFIG_FILE}, but no model: put it at "
                f"{model / '1' / GRAPH_FILE}; other formats than ONNX are not served"
            )
            yield Unserved(model.name, "", reason)


def _of_file(path: Path, model: Path, repository: Path) -> Unserved:
    reason = f"{path} lies outside of a version's folder: move it to {model / '1' / GRAPH_FILE}"
    return Unserved(model.name if model != repository else path.stem, "", reason)


def _of_version(repository: Path, model: Path, version: Path) -> str | None:
    """Say why `<model>/<version>` is not served, None if it is or is no model."""
    if is_servable(version):
        return None
    inside = _visible(version)
    names = [path.name for path in inside]
    graph = version / GRAPH_FILE
    if not VERSION.fullmatch(version.name):
        if MANIFEST_FILE in names or GRAPH_FILE in names:
            return (
                f"{version} is no version, which is a number from 1: rename the folder, or move "
                "it out of the repository"
            )
        if any(path.is_dir() and is_servable(path) for path in inside):
            return f"{version} lies too deep: move it to {repository / version.name}"
        return None
    if graph.is_dir():
        return (
            f"{graph} is a folder: rename it, and move what it holds to {version}, with the graph "
            f"as {GRAPH_FILE}"
        )
    if graph.is_symlink():
        return f"{graph} points to a file that is not there: {graph.readlink()}"
    if (named := _named_by_triton(model, version)) and named in names:
        return (
            f"{TRITON_CONFIG_FILE} names {named} by default_model_filename, and is not read: "
            f"rename {version / named} to {GRAPH_FILE}"
        )
    others = [path for path in inside if path.suffix == ".onnx"]
    if others:
        return (
            f"{version} has {others[0].name}, but no {GRAPH_FILE} and no {MANIFEST_FILE}: rename "
            f"it to {GRAPH_FILE}, or export the bundle again"
        )
    if any(name.startswith("model.") for name in names):
        return f"{version} has no {GRAPH_FILE}: export the model to ONNX; no other format is served"
    return None


def _named_by_triton(model: Path, version: Path) -> str | None:
    for folder in (version, model):
        config = folder / TRITON_CONFIG_FILE
        if config.is_file():
            text = config.read_text(errors="replace")
            if named := _TRITONS_FILENAME.search(text):
                return named[1]
    return None


def _visible(folder: Path) -> list[Path]:
    """Return what lies in a folder, sorted, without hidden names; nothing if it cannot be read."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:
        return []
