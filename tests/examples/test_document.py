"""The programs in docs/other-languages.md, built and run as whoever copies them would."""

import re
import shutil
from pathlib import Path

import pytest

from tests.examples.programs import EXAMPLES, Example, need_tools
from vecserve import Client

ROOT = EXAMPLES.parent
MAIN = {"node": "main.js", "go": "main.go", "cpp": "main.cc", "java": "Main.java"}
FENCES = {"node": "js", "go": "go", "cpp": "cpp", "java": "java"}
SENTENCES = ["How do I reset my password?", "I forgot my login details."]


@pytest.mark.parametrize("language", MAIN)
def test_the_program_in_the_document_gives_vectors(
    language: str, server_address: str, tmp_path: Path
) -> None:
    need_tools(language)
    # It takes the place of the example's own program, beside the file to copy.
    folder = tmp_path / "examples" / language
    shutil.copytree(EXAMPLES / language, folder)
    (tmp_path / "protos").symlink_to(ROOT / "protos")
    (folder / "protos").symlink_to(ROOT / "protos")  # Node's is read from where it runs
    (folder / MAIN[language]).write_text(program_of(language, server_address))

    output = Example(language, examples=tmp_path / "examples").finish().text
    found = re.findall(r"^(.+) (\d+) (-?\d\S+)$", output, re.MULTILINE)
    with Client(server_address) as client:
        rows = client.embed("all-MiniLM-L6-v2", SENTENCES)
    expected = {text: (384, row[0]) for text, row in zip(SENTENCES, rows, strict=True)}
    assert len(found) == len(expected), output
    for text, length, first in found:
        assert (int(length), float(first)) == pytest.approx(expected[text], abs=1e-5)


def program_of(language: str, address: str) -> str:
    """Return the document's first program of that language, for the server at `address`."""
    document = (ROOT / "docs" / "other-languages.md").read_text()
    fence = rf"^```{FENCES[language]}\n(.*?)^```$"
    program = re.search(fence, document, re.MULTILINE | re.DOTALL)
    assert program, f"docs/other-languages.md has no {language}"
    assert "127.0.0.1:8001" in program[1], "it names another server"
    return program[1].replace("127.0.0.1:8001", address)
