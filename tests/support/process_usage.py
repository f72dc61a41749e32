"""What a process holds: memory, threads, open files."""

import os
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one moment. Every graph that uses all of several cores has threads of its own."""

    memory_mb: float
    threads: int
    files: int


def usage_of(pid: int) -> Usage:
    """Read what a running process holds."""
    status = Path(f"/proc/{pid}/status").read_text()

    def number(name: str) -> int:
        found = re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)
        assert found
        return int(found[1])

    files = len(os.listdir(f"/proc/{pid}/fd"))
    return Usage(number("VmRSS") / 1000, number("Threads"), files)
