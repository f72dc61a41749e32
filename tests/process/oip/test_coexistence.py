"""`vecserve` and `tritonclient` in one process, in either order, against one server."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
import numpy as np
{imports}
address = sys.argv[1]
with vecserve.Client(address) as client:
    typed = client.embed("all-MiniLM-L6-v2", ["a sentence"])
text = tritonclient.grpc.InferInput("text", [1, 1], "BYTES")
text.set_data_from_numpy(np.array([["a sentence"]], dtype=np.object_))
with tritonclient.grpc.InferenceServerClient(address) as client:
    tensor = client.infer("all-MiniLM-L6-v2", [text]).as_numpy("embedding")
assert np.abs(typed - tensor).max() <= 1e-5
print("equal")
"""


@pytest.mark.parametrize(
    "imports",
    ["import vecserve\nimport tritonclient.grpc", "import tritonclient.grpc\nimport vecserve"],
)
def test_both_clients_in_one_process(server_address: str, imports: str) -> None:
    program = PROGRAM.format(imports=imports)
    done = subprocess.run(
        [sys.executable, "-c", program, server_address], capture_output=True, text=True
    )
    assert done.stdout.strip() == "equal", done.stderr
