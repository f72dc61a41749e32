"""The commands and programs in docs/guide.md, run as they stand there, section by section."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.examples.programs import EXAMPLES
from vecserve import Client

GUIDE = (EXAMPLES.parent / "docs" / "guide.md").read_text()
# Heading: a command of it, and what that prints or the file that it makes.
EXPECTED = {
    "A text": "texts.png",
    "An image": "photos.html",
    "A text and an image": "captions.html",
    "A recording": "speech.npy",
    "A video": "talk.npy",
    "Store and search": "found.html",
    "Which embedding is right": "help.png",
}
TIMEOUT_S = 300


def sections() -> dict[str, str]:
    """The guide's sections that have something to run, by heading."""
    found = dict(re.findall(r"^## (.+)\n((?:(?!## ).*\n)+)", GUIDE, re.MULTILINE))
    return {name: text for name, text in found.items() if programs_of(text)}


def programs_of(section: str) -> list[tuple[str, str]]:
    """Language and text of each block that is to be run."""
    return re.findall(r"^```(sh|python)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


def test_every_section_is_run() -> None:
    assert list(sections()) == list(EXPECTED)


@pytest.mark.parametrize("heading", EXPECTED)
def test_a_section_runs_as_it_stands(heading: str, server_address: str, tmp_path: Path) -> None:
    section = sections()[heading]
    with Client(server_address) as client:
        served = {model.name for model in client.models()}
    named = set(re.findall(r"--models? ([\w.-]+)", section))
    if missing := named - served:
        pytest.skip(f"NOT RUN, no bundle of {', '.join(missing)}: {heading}")
    folder = tmp_path / "data"
    shutil.copytree(EXAMPLES / "data", folder)
    # `vecserve`, in the folder where pip puts it.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"VECSERVE_SERVER": server_address, "PATH": path}
    for language, program in programs_of(section):
        command = ["bash", "-euo", "pipefail"] if language == "sh" else [sys.executable]
        done = subprocess.run(
            [*command, "-c", program],
            capture_output=True,
            text=True,
            env=environment,
            cwd=folder,
            timeout=TIMEOUT_S,
        )
        assert done.returncode == 0, done.stderr
    assert (folder / EXPECTED[heading]).stat().st_size > 500


def test_its_pictures_and_links_are_there() -> None:
    docs = EXAMPLES.parent / "docs"
    for link in re.findall(r"\]\(([^)#]+)(?:#[\w-]+)?\)", GUIDE):
        assert (docs / link).is_file(), link
