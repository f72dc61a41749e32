"""Repository scan: the models and versions in a folder."""

from pathlib import Path

from vecserve_server.repository.bundle import Bundle, read_bundle
from vecserve_server.repository.errors import BundleError
from vecserve_server.repository.manifest import MANIFEST_FILE
from vecserve_server.repository.onnx_file import GRAPH_FILE, OnnxFile, read_onnx_file

Found = Bundle | OnnxFile


def find_models(repository: Path) -> list[Path]:
    """Return the folders `<repository>/<model>/<version>` of bundles and plain models, sorted.

    Raises BundleError if the repository is no folder or holds neither.
    """
    if not repository.is_dir():
        raise BundleError(
            f"model repository {repository} is not a folder: "
            "create it with `vecserve-export all-MiniLM-L6-v2 --output DIR`, or name yours with "
            "--repository"
        )
    folders = {
        path.parent
        for file in (MANIFEST_FILE, GRAPH_FILE)
        for path in repository.glob(f"[!.]*/[!.]*/{file}")
    }
    if not folders:
        raise BundleError(
            f"model repository {repository} holds no bundle and no {GRAPH_FILE}: add one with "
            f"`vecserve-export all-MiniLM-L6-v2 --output {repository}`"
        )
    return sorted(folders)


def read_model(folder: Path) -> Found:
    """Read and check what lies in a model's folder. Raises BundleError."""
    if (folder / MANIFEST_FILE).is_file():
        return read_bundle(folder)
    return read_onnx_file(folder)
