"""Imports of the client: what it brings along, and what it does without."""

import subprocess
import sys
from pathlib import Path

import pytest


def modules_after(code: str) -> set[str]:
    listing = "import sys; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; {listing}"], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_the_client_is_light() -> None:
    loaded = modules_after("import vecserve")
    assert not loaded & {"onnxruntime", "torch", "vecserve_server", "vecserve_export", "pydantic"}
    assert not loaded & {"PIL", "typer", "rich", "pyarrow"}


def test_the_command_is_light_too() -> None:
    loaded = modules_after("import vecserve.cli")
    assert not loaded & {"PIL", "pymilvus", "pandas", "matplotlib", "scipy"}
    assert not loaded & {"onnxruntime", "torch", "vecserve_server", "vecserve_export", "pyarrow"}


_WITHOUT = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {refused}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Refuse())
from vecserve.cli import main
sys.argv[0] = "vecserve"
main()
"""


@pytest.mark.parametrize(
    ("package", "extra", "arguments"),
    [
        ("pyarrow", "parquet", ["embed", "-m", "m", "-t", "a", "-o", "x.parquet"]),
        ("pymilvus", "milvus", ["search", "a", "--into", "x.db", "-c", "c"]),
        ("milvus_lite", "milvus", ["search", "a", "--into", "x.db", "-c", "c"]),
        ("pyarrow", "parquet", ["search", "a", "--into", "x.parquet", "-c", "c"]),
        ("PIL", "milvus", ["search", "a", "--into", "x.db", "-c", "c", "--html", "x.html"]),
        ("scipy", "compare", ["compare", "-m", "m", "--pairs", "x.csv"]),
        ("matplotlib", "compare", ["compare", "-m", "m", "--pairs", "x", "--plot", "x.png"]),
        ("matplotlib", "compare", ["similarity", "a", "b", "-m", "m", "--png", "x.png"]),
        ("matplotlib", "bench", ["bench", "run", "-t", "typed:127.0.0.1:1/m", "--plots", "x"]),
        ("matplotlib", "bench", ["bench", "plot", "measured.json", "x"]),
        ("tritonclient", "bench", ["bench", "run", "-t", "oip:127.0.0.1:1/m"]),
        ("tritonclient", "bench", ["bench", "sweep", "-t", "oip:127.0.0.1:1/m", "--p99-ms", "9"]),
    ],
)
def test_a_missing_extra_is_named(
    tmp_path: Path, package: str, extra: str, arguments: list[str]
) -> None:
    (tmp_path / "measured.json").write_text('{"results": []}')
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT.format(refused={package}), *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 2, done.stderr
    assert f"needs {package}: pip install 'vecserve[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["measured.json"]


@pytest.mark.parametrize(
    "order", ["import vecserve, tritonclient.grpc", "import tritonclient.grpc, vecserve"]
)
def test_lives_beside_tritonclient(order: str) -> None:
    pytest.importorskip("tritonclient.grpc")
    assert {"vecserve", "tritonclient"} <= modules_after(order)
