"""Memory of a bare ONNX Runtime session: prints the PSS, in MiB, after one run of a graph.

python benchmarks/baselines/bare_session.py models/all-MiniLM-L6-v2/1/text.onnx
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort


def main(graph: str) -> None:
    """Run 16 tokens, as a server's first request would, and print the memory."""
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    ids = np.full((1, 16), 2000, np.int64)
    session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    kib = next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    print(f"{kib / 1024:.1f}")


if __name__ == "__main__":
    main(sys.argv[1])
