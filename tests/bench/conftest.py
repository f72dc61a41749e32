"""Fixtures: the `vecserve bench` command, and a server with a known service time."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

FAKE = Path(__file__).parent / "fake_server.py"
TIMEOUT_S = 120


class Bench:
    """Runs `vecserve bench` and reads what it wrote."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = folder / "measured.json"

    def __call__(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "vecserve", "bench", *arguments],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=os.environ | {"COLUMNS": "250"},
            timeout=TIMEOUT_S,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    def measure(self, command: str, *arguments: str) -> dict[str, Any]:
        """Return the JSON that a command writes."""
        self(command, *arguments, "--output", str(self._file))
        measured: dict[str, Any] = json.loads(self._file.read_text())
        return measured


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def slow_server() -> Iterator[Callable[[float], str]]:
    """Starts a server that takes the given seconds for each item, one by one; its address."""
    with ExitStack() as stack:

        def start(seconds: float) -> str:
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, str(FAKE), str(seconds)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            assert process.stdout
            return process.stdout.readline().strip()

        yield start
