"""Which package may import what. The map of the house is in CONTRIBUTING.md."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

MANIFEST = "vecserve_server.repository.manifest"
PROTOBUF = ("google", "grpc", "grpc_status", "grpc_health", "grpc_reflection", "vecserve")

# Folder: prefixes of modules that its files must not import.
FORBIDDEN = {
    "client/vecserve": ("vecserve_server", "vecserve_export", "onnxruntime", "torch", "PIL"),
    "server/vecserve_server": ("vecserve_export", "torch", "transformers", "onnx"),
    "server/vecserve_server/modalities": (*PROTOBUF, "onnxruntime"),
    "server/vecserve_server/engine": PROTOBUF,
    "server/vecserve_server/repository": (*PROTOBUF, "onnxruntime"),
    "server/vecserve_server/scheduling": PROTOBUF,
    "server/vecserve_server/serving": PROTOBUF,
    "export/vecserve_export": ("vecserve", "vecserve_server"),
    # The rules of the protocol: any server must be able to run them.
    "tests/contract": ("tests", "vecserve", "vecserve_server", "subprocess", "urllib"),
}
ALLOWED = {
    "export/vecserve_export": (MANIFEST,),
    "tests/contract": ("tests.contract", "vecserve.v1"),
}


def imports_of(path: Path) -> set[str]:
    """Absolute names of the modules a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
    return names


def is_under(module: str, prefixes: tuple[str, ...]) -> bool:
    return any(module == prefix or module.startswith(prefix + ".") for prefix in prefixes)


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_imports_stay_inside_the_house(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    trespassing = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in files
        for module in sorted(imports_of(path))
        if is_under(module, FORBIDDEN[folder]) and not is_under(module, ALLOWED.get(folder, ()))
    ]
    assert not trespassing


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("vecserve", ["onnxruntime", "torch", "typer", "rich", "PIL"]),
        ("vecserve_server.app", ["torch", "transformers", "onnx"]),
    ],
)
def test_what_an_import_brings_along(module: str, unwanted: list[str]) -> None:
    program = f"import sys, {module}; print([name for name in {unwanted} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
