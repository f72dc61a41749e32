"""The demo, against the shared server."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import MODELS
from tests.support.server_process import ServerProcess
from vecserve import Client

DEMO = Path(__file__).parents[2] / "examples" / "python" / "demo.py"
SSCD = "sscd-resnet50"


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
    for model in (client.model(name) for name in MODELS):
        mark = "" if model.trained else "UNTRAINED"
        title = f"{model.name}, {model.dimensions} dimensions {mark}".strip()
        assert re.search(rf"^{title} *$", done.stdout, re.MULTILINE)


def test_a_copy_finds_its_original(
    client: Client, server_address: str, images: list[bytes]
) -> None:
    done = run(server_address)
    assert done.returncode == 0, done.stderr
    if SSCD not in {model.name for model in client.models()}:
        assert f"No {SSCD} here, its package could not be fetched" in done.stdout
        pytest.skip(f"no bundle of {SSCD}: `make export` could not fetch its package")
    found = re.findall(r"copy of (\S+) +0\.\d{3} (\S+)", done.stdout)
    assert len(found) == len(images)
    assert all(copy == nearest for copy, nearest in found)


def test_without_sscd_it_goes_on(repository_of: Callable[..., Path]) -> None:
    with ServerProcess(repository_of(MODELS[0])) as server:
        done = run(server.address)
    assert f"No {SSCD} here, its package could not be fetched" in done.stdout
    # It ends as without the search for copies: of the other models there is none here.
    assert "6 of 22 items embedded" in done.stdout
    assert done.returncode == 1


def test_without_a_server_it_fails_and_says_why() -> None:
    done = run("127.0.0.1:1")
    assert done.returncode == 1
    assert "vecserve-server" in done.stderr
    assert "Traceback" not in done.stderr
