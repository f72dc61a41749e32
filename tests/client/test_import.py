"""What `import vecserve` brings along."""

import subprocess
import sys

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
    assert not loaded & {"onnxruntime", "torch", "vecserve_server", "vecserve_export", "pyarrow"}


@pytest.mark.parametrize(
    "order", ["import vecserve, tritonclient.grpc", "import tritonclient.grpc, vecserve"]
)
def test_lives_beside_tritonclient(order: str) -> None:
    pytest.importorskip("tritonclient.grpc")
    assert {"vecserve", "tritonclient"} <= modules_after(order)
