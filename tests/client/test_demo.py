"""The demo, against the shared server."""

import re
import subprocess
import sys
from pathlib import Path

from vecserve import Client

DEMO = Path(__file__).parents[2] / "examples" / "python" / "demo.py"


def run(address: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(DEMO), address], capture_output=True, text=True, timeout=120
    )


def test_shows_every_item_and_its_neighbour(client: Client, server_address: str) -> None:
    done = run(server_address)
    assert done.returncode == 0, done.stderr
    assert f"22 of 22 items embedded by {server_address}" in done.stdout
    assert re.search(r"How do I reset my password\?.* 0\.54\d I forgot my login", done.stdout)
    assert re.search(r"Share prices dropped.* 0\.67\d The stock market", done.stdout)
    for model in client.models():
        mark = "" if model.trained else "UNTRAINED"
        title = f"{model.name}, {model.dimensions} dimensions {mark}".strip()
        assert re.search(rf"^{title} *$", done.stdout, re.MULTILINE)


def test_without_a_server_it_fails_and_says_why() -> None:
    done = run("127.0.0.1:1")
    assert done.returncode == 1
    assert "vecserve-server" in done.stderr
    assert "Traceback" not in done.stderr
