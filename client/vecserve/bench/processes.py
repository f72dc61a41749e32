"""CPU time and memory of a process and its descendants, from Linux's /proc."""

import os
from collections import defaultdict
from pathlib import Path

_PROC = Path("/proc")
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
# Fields of /proc/PID/stat after the command's closing parenthesis; proc(5) counts from 1, and from
# the pid.
_PARENT, _USER_TICKS, _SYSTEM_TICKS = 4 - 3, 14 - 3, 15 - 3


def cpu_s(pid: int) -> float:
    """Return the CPU seconds that a process and its descendants have used."""
    ticks = 0
    for own in tree(pid):
        fields = _stat(own)
        if fields:
            ticks += int(fields[_USER_TICKS]) + int(fields[_SYSTEM_TICKS])
    return ticks / _TICKS_A_SECOND


def pss_mb(pid: int) -> float:
    """Return the PSS of a process and its descendants, in MiB: shared pages are divided."""
    kib = 0
    for own in tree(pid):
        try:
            lines = (_PROC / str(own) / "smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        kib += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kib / 1024


def tree(pid: int) -> list[int]:
    """Return a process and its live descendants; empty if it has ended."""
    children = defaultdict(list)
    for path in _PROC.iterdir():
        if path.name.isdigit() and (fields := _stat(int(path.name))):
            children[int(fields[_PARENT])].append(int(path.name))
    found = [pid] if _stat(pid) else []
    for own in found:
        found += children[own]
    return found


def _stat(pid: int) -> list[str]:
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
