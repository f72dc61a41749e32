"""CPU graph cache: graphs optimized for this machine, weights laid out for its kernels, on disk.

ONNX Runtime repacks matrices for the processor when it loads a graph. Saved
once, the repacked weights are mapped from the file by every session instead of
copied into it: loading takes a fraction of the time, and a second session
takes next to no memory.
"""

import hashlib
import logging
import platform
import re
import shutil
import tempfile
from pathlib import Path

import onnxruntime as ort

_log = logging.getLogger(__name__)

_GRAPH = "graph.onnx"
_WEIGHTS = "weights.bin"
_CPU_INFO = Path("/proc/cpuinfo")
# Smaller tensors stay inside the graph, in bytes. The second is tried where a tensor
# between the two has an odd size: larger ones ONNX Runtime aligns.
_SMALL = (1 << 10, 1 << 20)
# Tensors follow each other in the file without gaps, and kernels read repacked weights
# where they lie: off this boundary, in bytes, that is a segmentation fault (1.31).
_ALIGNMENT = 64
# Where the graph's file says that repacked weights are: offset, length, padding.
_REPACKED = re.compile(rb"\|(\d+);\d+;\d+")


def compiled(graph: Path, sha256: str, cache: Path) -> Path | None:
    """Return `graph`, whose hash is given, as compiled for this machine; compile it if need be.

    Returns None, and logs why, if the cache cannot be written.
    """
    folder = cache / f"{graph.stem}-{_key(sha256)}"
    if not (folder / _GRAPH).is_file():
        try:
            cache.mkdir(parents=True, exist_ok=True)
            scratch = Path(tempfile.mkdtemp(dir=cache))
            try:
                _compile(graph, scratch)
                # Another server that was as quick has made the very same.
                if not folder.exists():
                    scratch.rename(folder)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
        except OSError as error:
            _log.warning(
                "cannot keep compiled graphs in %s (%s): loading takes longer and more memory; "
                "name a writable folder with --cache",
                cache,
                error.strerror,
            )
            return None
    return folder / _GRAPH


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
