"""Repository scan: the models and versions in a folder, and what only looks like one."""

from dataclasses import dataclass
from pathlib import Path

from vecserve_server.repository.bundle import Bundle, read_bundle
from vecserve_server.repository.errors import BundleError
from vecserve_server.repository.manifest import MANIFEST_FILE
from vecserve_server.repository.onnx_file import GRAPH_FILE, OnnxFile, read_onnx_file
from vecserve_server.repository.unserved import Unserved, find_unserved, is_servable

Found = Bundle | OnnxFile


@dataclass(frozen=True, slots=True)
class Scan:
    """What lies in a repository: `folders` of models, `<model>/<version>`, and the rest, sorted."""

    folders: list[Path]
    unserved: list[Unserved]


def scan(repository: Path) -> Scan:
    """Return what lies in a repository.

    Raises BundleError if it is no folder or holds no model.
    """
    if not repository.is_dir():
        raise BundleError(
            f"model repository {repository} is not a folder: "
            "create it with `vecserve-export all-MiniLM-L6-v2 --output DIR`, or name yours with "
            "--repository"
        )
    folders = sorted(path for path in repository.glob("[!.]*/[!.]*") if is_servable(path))
    unserved = find_unserved(repository)
    if not folders and unserved:
        reasons = "; ".join(one.reason for one in unserved)
        raise BundleError(f"model repository {repository} holds no model to serve: {reasons}")
    if not folders:
        raise BundleError(
            f"model repository {repository} holds no bundle and no {GRAPH_FILE}: add one with "
            f"`vecserve-export all-MiniLM-L6-v2 --output {repository}`"
        )
    return Scan(folders, unserved)


def read_model(folder: Path) -> Found:
    """Read and check what lies in a model's folder. Raises BundleError."""
    try:
        if (folder / MANIFEST_FILE).is_file():
            return read_bundle(folder)
        return read_onnx_file(folder)
    except OSError as error:
        raise BundleError(f"{folder} cannot be read: {error}") from error
