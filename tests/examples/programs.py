"""The examples as processes, and which of them can be built here."""

import os
import re
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
TOOLS = {
    "python": [],
    "node": ["node", "npm"],
    "go": ["go", "protoc", "protoc-gen-go", "protoc-gen-go-grpc"],
    "cpp": ["g++", "make", "pkg-config", "protoc", "grpc_cpp_plugin"],
    "java": ["java", "javac", "protoc", "grpc_java_plugin"],
}
LANGUAGES = list(TOOLS)
TIMEOUT_S = 300
"""For a build and a run; building the C++ example is the longest."""


@dataclass
class Output:
    """What an example printed, by the first word of its lines."""

    text: str

    @property
    def dimensions(self) -> dict[str, int]:
        """Length of the vector of each item, by id; fails if an item came twice."""
        found = re.findall(r"^vector (\S+) (\d+)$", self.text, re.MULTILINE)
        assert len(found) == len(dict(found)), self.text
        return {name: int(length) for name, length in found}

    @property
    def codes(self) -> dict[str, str]:
        """Code of each failed item, by id."""
        return dict(re.findall(r"^error (\S+) ([A-Z_]+) \S.*$", self.text, re.MULTILINE))

    @property
    def similarities(self) -> dict[str, float]:
        """Cosine of each pair."""
        found = re.findall(r"^similarity (\S+ \S+) (-?\d\.\d{6})$", self.text, re.MULTILINE)
        return {pair: float(cosine) for pair, cosine in found}

    @property
    def untrained(self) -> set[str]:
        """Models it warns of."""
        return set(re.findall(r"^untrained (\S+)", self.text, re.MULTILINE))


class Example:
    """A running example. `until` waits for what it prints, `finish` for its end."""

    def __init__(
        self, language: str, *arguments: str, program: str = "", examples: Path = EXAMPLES
    ) -> None:
        self.language = language
        self._text = ""
        self._ended = False
        self._news = threading.Condition()
        if language == "python":
            command = [sys.executable, str(examples / language / f"{program or 'main'}.py")]
        else:
            command = [str(examples / language / "run.sh")]
        self._process = subprocess.Popen(
            [*command, *arguments],
            env={**os.environ, "PROGRAM": program},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def until(self, pattern: str) -> None:
        """Wait until it has printed what the pattern matches."""
        with self._news:
            arrived = self._news.wait_for(
                lambda: self._ended or re.search(pattern, self._text), TIMEOUT_S
            )
            assert arrived, f"{self.language} printed no {pattern!r}:\n{self._text}"
            assert re.search(pattern, self._text), f"{self.language} ended:\n{self._text}"

    def press_enter(self) -> None:
        """Give it an empty line, for which it waits."""
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def finish(self) -> Output:
        """End its input, wait for its end, which must be a good one; return what it printed."""
        assert self._process.stdin
        self._process.stdin.close()
        code = self._process.wait(TIMEOUT_S)
        self.close()
        assert code == 0, f"{self.language} exited {code}:\n{self._text}"
        return Output(self._text)

    def close(self) -> None:
        """End it, if it has not."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stdin
        self._process.stdin.close()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            with self._news:
                self._text += line
                self._news.notify_all()
        self._process.stdout.close()
        with self._news:
            self._ended = True
            self._news.notify_all()


def missing_tools(language: str) -> str:
    """Name what is needed to build an example and not there; empty if all is."""
    return " ".join(tool for tool in TOOLS[language] if not shutil.which(tool))


def need_tools(language: str) -> None:
    """Skip the test where the language cannot be built; in CI, fail it."""
    if missing := missing_tools(language):
        reason = f"{language} needs {missing}: run examples/install-toolchains.sh"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
