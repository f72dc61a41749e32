"""Error reasons: each has an explanation, none is said elsewhere, the docs name no others."""

import ast
import re
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tools.protos.error_reasons import documented_reasons
from vecserve_server.reasons import Reason

SOURCES = [
    path
    for path in sorted((ROOT / "server" / "vecserve_server").rglob("*.py"))
    if "stubs" not in path.parts and path.name != "reasons.py"
]
ERRORS = {
    node.name
    for node in ast.parse((ROOT / "server/vecserve_server/errors.py").read_text()).body
    if isinstance(node, ast.ClassDef)
}
# What the client refuses before anything is sent.
CLIENT = {
    node.value
    for name in ("_items", "_stream", "client", "aio")
    for node in ast.walk(ast.parse((ROOT / f"client/vecserve/{name}.py").read_text()))
    if isinstance(node, ast.Constant) and isinstance(node.value, str)
}
NAME = re.compile(r"[A-Z]+(?:_[A-Z0-9]+)+")


def test_every_reason_is_explained_and_raised() -> None:
    documented = documented_reasons()
    assert list(documented) == list(Reason)
    assert not [one.name for one in documented.values() if not one.codes]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_no_reason_is_said_as_a_string(path: Path) -> None:
    tree = ast.parse(path.read_text())
    said = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node.value in set(Reason)
    ]
    assert not said
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        if ast.unparse(call.func) in ERRORS and len(call.args) > 1:
            assert not isinstance(call.args[0], ast.Constant | ast.JoinedStr), ast.unparse(call)


@pytest.mark.parametrize("page", ["python-client.md", "other-languages.md"])
def test_the_clients_docs_name_only_reasons_that_exist(page: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    named = set(re.findall(r"reasons? `([A-Z_0-9]+)`", text))
    named |= {
        cells[0].strip("` ")
        for line in text.splitlines()
        if len(cells := line.strip("|").split("|")) > 2 and NAME.fullmatch(cells[0].strip("` "))
    }
    codes = {"INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "NOT_FOUND"}
    assert named - codes
    assert named - codes <= set(Reason) | CLIENT
