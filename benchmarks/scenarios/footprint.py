"""Memory, and the time to be ready."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.context import MINILM, House
from benchmarks.servers import ROOT, Ours
from vecserve.bench.processes import pss_mb

_STARTS = 3


def memory(house: House) -> None:
    """PSS of a server with MiniLM ready, over that of a bare session that has run."""
    with tempfile.TemporaryDirectory() as folder:
        repository = _only_minilm(house, folder)
        # A cache of its own, or another server of ours would share its mapped weights; and the
        # second start, since the first compiles the graph.
        flags = ("--cache", str(Path(folder) / ".cache"))
        with Ours(repository, *flags):
            pass
        with Ours(repository, *flags) as server:
            ours = pss_mb(server.pid)
    script = str(ROOT / "benchmarks" / "baselines" / "bare_session.py")
    graph = str(house.bundle(MINILM) / "text.onnx")
    bare = float(_output([sys.executable, script, graph]))
    house.note(f"PSS: our server with MiniLM ready {ours:.0f} MiB, a bare session {bare:.0f} MiB")
    house.bar("memory over a bare session's, PSS", ours / bare, "<=", 1.25)


def start(house: House) -> None:
    """From start to ready with MiniLM, less what Python's imports take alone."""
    ready = []
    imports = []
    with tempfile.TemporaryDirectory() as folder:
        repository = _only_minilm(house, folder)
        # The first compiles the graph for this machine, the others find it.
        for _ in range(_STARTS + 1):
            began = time.perf_counter()
            with Ours(repository):
                ready.append(time.perf_counter() - began)
            began = time.perf_counter()
            _output([sys.executable, "-c", "import vecserve_server.__main__"])
            imports.append(time.perf_counter() - began)
    own = median(ready[1:]) - median(imports[1:])
    house.note(
        f"ready after {median(ready[1:]):.2f} s, imports alone {median(imports[1:]):.2f} s; "
        f"first start {ready[0]:.2f} s"
    )
    house.bar("start to ready, less imports", own, "<=", 1.5, "s")


def _only_minilm(house: House, folder: str) -> Path:
    (Path(folder) / MINILM).symlink_to((house.models / MINILM).resolve())
    return Path(folder)


def _output(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
