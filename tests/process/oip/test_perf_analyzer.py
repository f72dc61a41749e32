"""Triton's perf_analyzer 2.51, unmodified: completes, and agrees with our statistics."""

import base64
import csv
import json
import os
import re
import struct
import subprocess
from pathlib import Path

import pytest

from tests.contract.oip.requests import MINILM, RESNET
from tests.support.server_process import ServerProcess
from tests.support.testdata import perf_analyzer

# Three short windows, taken as they are: this is about completing, not about speed.
SHORT = (
    "--measurement-mode=count_windows",
    "--measurement-request-count=20",
    "--stability-percentage=999",
    "--max-trials=4",
)
# perf_analyzer's random tokens lie outside the vocabulary, its zeros mask everything.
TOKENS = ("-m", f"{MINILM}.text", "--input-data=tokens.json")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, images: list[bytes]) -> Path:
    """Input data: texts, an image file, and tokens of different lengths."""
    folder = tmp_path_factory.mktemp("data")
    # Binary elements come as they travel: each with its length before it.
    image = base64.b64encode(struct.pack("<I", len(images[0])) + images[0]).decode()

    def row(length: int) -> dict[str, object]:
        return {
            "input_ids": {"content": [2000] * length, "shape": [length]},
            "attention_mask": {"content": [1] * length, "shape": [length]},
        }

    for name, rows in {
        "text": [{"text": ["a sentence"]}, {"text": ["another one, a bit longer: häuser"]}],
        "image": [{"image": {"b64": image}}],
        "tokens": [row(16)],
        "lengths": [row(3), row(20), row(7)],
    }.items():
        (folder / f"{name}.json").write_text(json.dumps({"data": rows}))
    return folder


@pytest.mark.parametrize(
    "flags",
    [
        (*TOKENS,),
        (*TOKENS, "-a", "--concurrency-range=4"),
        (*TOKENS, "-a", "--streaming", "--concurrency-range=8"),
        (*TOKENS, "-a", "--shared-memory=system", "--output-shared-memory-size=65536"),
        (*TOKENS, "-b", "8"),
        (*TOKENS, "-a", "--request-rate-range=50"),
        ("-m", f"{MINILM}.text", "-a", "--input-data=lengths.json", "--concurrency-range=4"),
        ("-m", MINILM, "--input-data=text.json"),
        ("-m", MINILM, "--input-data=text.json", "-a", "--streaming", "-b", "2"),
        ("-m", RESNET, "--input-data=image.json", "-a"),
        ("-m", f"{RESNET}.image", "-a"),
    ],
    ids=" ".join,
)
def test_completes_and_agrees(
    server: ServerProcess, data: Path, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    program, libraries = perf_analyzer()
    report = tmp_path / "report.csv"
    done = subprocess.run(
        [program, "-i", "grpc", "-u", server.address, "-f", report, *SHORT, *flags],
        cwd=data,
        env=os.environ | {"LD_LIBRARY_PATH": libraries},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rror" not in done.stdout
    counts = {
        name: int(count)
        for name, count in re.findall(r"^ +(.* count): (\d+)$", done.stdout, re.MULTILINE)
    }
    rows = int(flags[flags.index("-b") + 1]) if "-b" in flags else 1
    successes = counts["Successful request count"]
    assert counts["Inference count"] == successes * rows
    assert 0 < counts["Execution count"] <= counts["Inference count"]
    # Requests at the edges of a window are seen by one side only.
    assert abs(successes - counts["Request count"]) <= 16
    (row,) = csv.DictReader(report.read_text().splitlines())
    inside = sum(float(row[name]) for name in row if name.startswith("Server "))
    outside = sum(float(row[name]) for name in row if name.startswith(("Client ", "Network")))
    assert float(row["Server Compute Infer"]) > 0
    # All in microseconds: what the server says it took fits into what the client saw.
    assert 0 < inside <= (inside + outside) * 1.001
    assert outside > 0
