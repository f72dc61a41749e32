"""The command `vecserve` in a process of its own, as a user has it."""

import os
import subprocess
import sys
from pathlib import Path

TIMEOUT_S = 300


def command_line(*arguments: str | Path) -> list[str]:
    """Return the words that start it."""
    return [sys.executable, "-m", "vecserve", *map(str, arguments)]


class VecserveCommand:
    """Runs `vecserve` in a folder, with a server's address in the environment."""

    def __init__(self, server: str, folder: Path, **environment: str) -> None:
        self.environment = os.environ | {"VECSERVE_SERVER": server} | environment
        self.folder = folder

    def run(
        self, *arguments: str | Path, stdin: str = "", code: int = 0
    ) -> subprocess.CompletedProcess[str]:
        """Run it to its end, which must be `code`, without a traceback."""
        done = subprocess.run(
            command_line(*arguments),
            input=stdin,
            capture_output=True,
            text=True,
            env=self.environment,
            cwd=self.folder,
            timeout=TIMEOUT_S,
        )
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done
