"""Footprint of a server with one model: memory, and time from start to ready."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.context import MINILM, BenchContext
from benchmarks.servers import ROOT, VecserveServer
from vecserve.bench.processes import pss_mb

_STARTS = 3


def memory(context: BenchContext) -> None:
    """PSS of a server with MiniLM ready, over that of a bare session that has run."""
    with tempfile.TemporaryDirectory() as folder:
        repository = _only_minilm(context, folder)
        # A cache of its own, or the run's other server would share the mapped weights; and the
        # second start, since the first compiles the graph.
        flags = ("--cache", str(Path(folder) / ".cache"))
        with VecserveServer(repository, *flags):
            pass
        with VecserveServer(repository, *flags) as server:
            server_mb = pss_mb(server.pid)
    script = str(ROOT / "benchmarks" / "baselines" / "bare_session.py")
    graph = str(context.bundle(MINILM) / "text.onnx")
    bare_mb = float(_output([sys.executable, script, graph]))
    context.note(
        f"PSS: vecserve with MiniLM ready {server_mb:.0f} MiB, a bare session {bare_mb:.0f} MiB"
    )
    context.check("memory over a bare session's, PSS", server_mb / bare_mb, "<=", 1.25)


def start(context: BenchContext) -> None:
    """Seconds from start to ready with MiniLM, less those of Python's imports alone."""
    ready = []
    imports = []
    with tempfile.TemporaryDirectory() as folder:
        repository = _only_minilm(context, folder)
        # The first compiles the graph for this machine, the others find it.
        for _ in range(_STARTS + 1):
            began = time.perf_counter()
            with VecserveServer(repository):
                ready.append(time.perf_counter() - began)
            began = time.perf_counter()
            _output([sys.executable, "-c", "import vecserve_server.run"])
            imports.append(time.perf_counter() - began)
    seconds = median(ready[1:]) - median(imports[1:])
    context.note(
        f"ready after {median(ready[1:]):.2f} s, imports alone {median(imports[1:]):.2f} s; "
        f"first start {ready[0]:.2f} s"
    )
    context.check("start to ready, less imports", seconds, "<=", 1.5, "s")


def _only_minilm(context: BenchContext, folder: str) -> Path:
    (Path(folder) / MINILM).symlink_to((context.models / MINILM).resolve())
    return Path(folder)


def _output(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
