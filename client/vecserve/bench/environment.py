"""Environment of a measurement: machine, load, package versions and git revision."""

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_CPU_INFO = Path("/proc/cpuinfo")
_MEM_INFO = Path("/proc/meminfo")
# Instruction sets that change how fast a graph runs.
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
_PACKAGES = (
    *("vecserve", "onnxruntime", "grpcio", "protobuf", "numpy", "tokenizers"),
    *("onnxruntime-gpu", "onnxruntime-openvino", "torch", "tritonclient", "mlcommons-loadgen"),
)


def collect_environment() -> dict[str, Any]:
    """Return the machine, its load, installed versions and the revision, as JSON values."""
    cpu = _fields(_CPU_INFO)
    flags = set(cpu.get("flags", "").split())
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": cpu.get("model name", platform.processor()),
        "cpu_flags": [flag for flag in _FLAGS if flag in flags],
        "cores": os.cpu_count(),
        "memory": _fields(_MEM_INFO).get("MemTotal", ""),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "system": platform.platform(),
        "python": sys.version.split()[0],
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
        "revision": _revision(),
    }


def _fields(path: Path) -> dict[str, str]:
    """Read `name : value` lines; of a repeated name, the first."""
    found: dict[str, str] = {}
    if path.is_file():
        for line in path.read_text().splitlines():
            name, _, value = line.partition(":")
            found.setdefault(name.strip(), value.strip())
    return found


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _revision() -> str:
    """Return the git revision of the folder we run in, "+" for changed files; "" if none."""
    command = ["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()
