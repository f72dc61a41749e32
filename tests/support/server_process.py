"""Starts the real server as a process of its own, and ends it."""

import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path

# Until a server that was told to stop, or refuses to start, has ended, on a busy machine.
STOP_TIMEOUT_S = 300


class ServerProcess:
    """A `vecserve-server` on free loopback ports. Use as a context manager.

    Entering waits until the log says what `until` matches: by default that all
    models are ready. `log` is what it has printed so far. `module` is run in the
    place of the server.
    """

    def __init__(
        self,
        repository: Path,
        *flags: str,
        until: str = r"serving \d+ models, ready",
        module: str = "vecserve_server",
    ) -> None:
        self.repository = repository
        self._flags = flags
        self._until = until
        self._module = module
        self._lines: list[str] = []
        self._ended = False
        self._news = threading.Condition()

    def __enter__(self) -> "ServerProcess":
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", self._module),
                *("--repository", str(self.repository), "--port", "0", "--metrics-port", "0"),
                *self._flags,
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        try:
            self.wait_for_log(self._until)
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def log(self) -> str:
        """What the server has printed."""
        with self._news:
            return "".join(self._lines)

    @property
    def address(self) -> str:
        """Where gRPC listens."""
        return self.wait_for_log(r"listening on (\S+:\d+)")[1]

    @property
    def metrics_url(self) -> str:
        """Where Prometheus scrapes."""
        return self.wait_for_log(r"metrics on (\S+)")[1]

    def metric(self, name: str) -> Callable[[], float]:
        """Return a function that reads the metric of this name and labels; 0 if there is none."""

        def read() -> float:
            with urllib.request.urlopen(self.metrics_url) as response:
                lines = response.read().decode().splitlines()
            values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
            return float(values.get(name, 0))

        return read

    def wait_for_log(self, pattern: str) -> re.Match[str]:
        """Return the pattern's match in the log once it is there; fail if the server ends first."""
        with self._news:
            while not (found := re.search(pattern, "".join(self._lines))):
                if self._ended:
                    raise AssertionError(
                        f"the server ended without {pattern!r}:\n{''.join(self._lines)}"
                    )
                self._news.wait()
            return found

    def terminate(self) -> None:
        """Send SIGTERM and return at once."""
        self.process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """Wait for the end and return the exit code."""
        code = self.process.wait(STOP_TIMEOUT_S)
        self._reader.join()
        return code

    def stop(self) -> int:
        """End it as an operator would, and return the exit code."""
        if self.process.poll() is None:
            self.terminate()
        return self.wait()

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.wait()

    def _read(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self._add(line)
        self.process.stderr.close()
        self._add("", ended=True)

    def _add(self, line: str, ended: bool = False) -> None:
        with self._news:
            self._lines.append(line)
            self._ended = ended
            self._news.notify_all()


def run_server(arguments: Iterable[str]) -> subprocess.CompletedProcess[str]:
    """Run a server that is expected to refuse to start."""
    return subprocess.run(
        [sys.executable, "-m", "vecserve_server", *arguments],
        capture_output=True,
        text=True,
        timeout=STOP_TIMEOUT_S,
    )


def descendants(process: int) -> list[int]:
    """Return the processes that a process has started, and those that these have."""
    children = {
        int(child)
        for listed in Path(f"/proc/{process}/task").glob("*/children")
        for child in listed.read_text().split()
    }
    return [one for child in children for one in (child, *descendants(child))]
