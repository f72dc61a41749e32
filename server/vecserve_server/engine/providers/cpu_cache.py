"""CPU graph cache: graphs optimized for this machine, weights laid out for its kernels, on disk.

ONNX Runtime repacks matrices for the processor when it loads a graph. Saved
once, the repacked weights are mapped from the file by every session instead of
copied into it: loading takes a fraction of the time, and a second session
takes next to no memory.

The cache is not trusted and never needed. An entry is a folder with the hashes of its
files, renamed into place once all of it is on the disk; one that differs from its hashes,
or does not load, is compiled again once, and a model does without what cannot be kept.
"""

import hashlib
import logging
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import onnxruntime as ort

from vecserve_server.repository.manifest import sha256_of

_log = logging.getLogger(__name__)

T = TypeVar("T")

_GRAPH = "graph.onnx"
_WEIGHTS = "weights.bin"
# Hashes of the two, as sha256sum writes and checks them.
_SUMS = "SHA256SUMS"
_CPU_INFO = Path("/proc/cpuinfo")
# Smaller tensors stay inside the graph, in bytes. The second is tried where a tensor
# between the two has an odd size: larger ones ONNX Runtime aligns.
_SMALL = (1 << 10, 1 << 20)
# Tensors follow each other in the file without gaps, and kernels read repacked weights
# where they lie: off this boundary, in bytes, that is a segmentation fault (1.31).
_ALIGNMENT = 64
# Where the graph's file says that repacked weights are: offset, length, padding.
_REPACKED = re.compile(rb"\|(\d+);\d+;\d+")


def load_compiled(graph: Path, sha256: str, cache: Path, load: Callable[[Path], T]) -> T | None:
    """Return what `load` makes of `graph` as compiled for this machine; compile it if need be.

    `sha256` is the graph's. Returns None, and logs why, if there is no way to keep it compiled.
    """
    folder = cache / f"{graph.stem}-{_key(sha256)}"
    # ONNX Runtime's exceptions, also those of a full disk, have no common class of their own.
    try:
        if folder.exists():
            try:
                _check(folder)
                return load(folder / _GRAPH)
            except Exception as error:
                _log.warning("%s is damaged (%s): %s is compiled again", folder, error, graph)
        _make(graph, folder)
        return load(folder / _GRAPH)
    except Exception as error:
        _log.warning(
            "%s runs without a compiled copy in %s (%s): loading takes longer and more memory; "
            "name a writable folder with room with --cache",
            graph,
            cache,
            " ".join(str(error).split()),
        )
        return None


def _check(folder: Path) -> None:
    """Raise ValueError or OSError unless an entry is as it was written."""
    sums = [line.split() for line in (folder / _SUMS).read_text().splitlines()]
    if {name for _, name in sums} | {_SUMS} != {file.name for file in folder.iterdir()}:
        raise ValueError("it has other files than were written")
    for sha256, name in sums:
        if sha256_of(folder / name) != sha256:
            raise ValueError(f"{name} is not what was written")


def _make(graph: Path, folder: Path) -> None:
    """Compile a graph into an entry of the cache, in the place of one that is damaged."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        made = scratch / "made"
        made.mkdir()
        _compile(graph, made)
        files = sorted(made.iterdir())
        sums = made / _SUMS
        sums.write_text("".join(f"{sha256_of(file)}  {file.name}\n" for file in files))
        for path in (*files, sums, made):
            _sync(path)
        if folder.exists():
            folder.rename(scratch / "damaged")
        made.rename(folder)
        _sync(folder.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _sync(path: Path) -> None:
    """Wait until a file's contents, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _compile(graph: Path, folder: Path) -> None:
    for small in _SMALL:
        _save(graph, folder, small, repacked=True)
        offsets = _REPACKED.findall((folder / _GRAPH).read_bytes())
        if all(int(offset) % _ALIGNMENT == 0 for offset in offsets):
            return
    # Each session repacks for itself.
    _save(graph, folder, _SMALL[0], repacked=False)


def _save(graph: Path, folder: Path, small: int, *, repacked: bool) -> None:
    for leftover in (_GRAPH, _WEIGHTS):
        (folder / leftover).unlink(missing_ok=True)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(folder / _GRAPH)
    for name, value in {
        "session.optimized_model_external_initializers_file_name": _WEIGHTS,
        "session.optimized_model_external_initializers_min_size_in_bytes": str(small),
        "session.save_external_prepacked_constant_initializers": str(int(repacked)),
    }.items():
        options.add_session_config_entry(name, value)
    ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def _key(sha256: str) -> str:
    """Name the graph, the runtime and the processor: what the layout depends on."""
    flags = ""
    if _CPU_INFO.is_file():
        lines = _CPU_INFO.read_text().splitlines()
        flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    parts = [sha256, ort.__version__, platform.machine(), flags, f"aligned to {_ALIGNMENT}"]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
