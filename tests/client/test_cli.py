"""The `vecserve` command, as a shell runs it."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest

from vecserve import Client

TEXT = "all-MiniLM-L6-v2"
IMAGE = "resnet-50"
TIMEOUT_S = 300


@pytest.fixture
def environment(server_address: str) -> dict[str, str]:
    return os.environ | {"VECSERVE_SERVER": server_address, "COLUMNS": "200"}


class Command:
    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self._environment = environment
        self._folder = folder

    def __call__(
        self, *arguments: str | Path, stdin: bytes = b"", code: int = 0
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "vecserve", *map(str, arguments)],
            input=stdin,
            capture_output=True,
            env=self._environment,
            cwd=self._folder,
            timeout=TIMEOUT_S,
        )
        stdout, stderr = done.stdout.decode(), done.stderr.decode()
        assert done.returncode == code, stderr
        assert "Traceback" not in stderr
        return subprocess.CompletedProcess(done.args, code, stdout, stderr)

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "vecserve", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # A shell's background job ignores Ctrl-C, and hands that down to its children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            env=self._environment,
            cwd=self._folder,
        )


@pytest.fixture
def vecserve(environment: dict[str, str], tmp_path: Path) -> Command:
    return Command(environment, tmp_path)


def read_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_texts_to_stdout(vecserve: Command, client: Client) -> None:
    done = vecserve("embed", "-m", TEXT, "-t", "A cat", "--text", "word " * 400)
    rows = read_lines(done.stdout)
    assert [row["item"] for row in rows] == ["A cat", "word " * 400]
    assert [row["truncated"] for row in rows] == [False, True]
    assert [row["tokens"] for row in rows] == [4, 256]
    vectors = np.array([row["vector"] for row in rows], np.float32)
    np.testing.assert_allclose(vectors, client.embed(TEXT, ["A cat", "word " * 400]), atol=1e-5)
    assert "2 embedded, 0 failed, 1 truncated" in done.stderr
    assert "UNTRAINED" not in done.stderr


def test_piped_lines_to_npy(vecserve: Command, client: Client, tmp_path: Path) -> None:
    lines = ["first", "", "Grüße", *(f"line {number}" for number in range(1200))]
    text = "\r\n".join(lines[:3]) + "\n" + "\n".join(lines[3:])
    vecserve("embed", "-m", TEXT, "-o", "out.npy", stdin=text.encode())
    array = np.load(tmp_path / "out.npy")
    assert (array.shape, array.dtype) == ((1203, 384), np.float32)
    np.testing.assert_allclose(array[:3], client.embed(TEXT, lines[:3]), atol=1e-5)
    names = read_lines((tmp_path / "out.npy.items.jsonl").read_text())
    assert [row["item"] for row in names] == lines
    assert [row["row"] for row in names] == list(range(1203))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.npy", "out.npy.items.jsonl"]


def test_parquet_in_row_groups(vecserve: Command, client: Client, tmp_path: Path) -> None:
    lines = "".join(f"line {number}\n" for number in range(1100))
    vecserve("embed", "-m", TEXT, "-", "-o", "out.parquet", stdin=lines.encode())
    file = pyarrow.parquet.ParquetFile(tmp_path / "out.parquet")
    assert file.metadata.num_row_groups == 2
    table = file.read()
    file.close()
    assert table.column_names == ["item", "tokens", "truncated", "vector"]
    assert table["item"].to_pylist() == lines.splitlines()
    np.testing.assert_allclose(
        table["vector"][1099].as_py(), client.embed(TEXT, ["line 1099"])[0], atol=1e-5
    )
    assert table.schema.metadata[b"vecserve.model"] == TEXT.encode()
    assert table.schema.metadata[b"vecserve.trained"] == b"true"


def test_folders_globs_and_a_bad_file(vecserve: Command, photo: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    for name in ("b.jpg", "a.jpg", "below/c.JPG", ".hidden.jpg"):
        shutil.copy(photo, folder / name)
    (folder / "notes.md").write_text("not an image")
    (folder / "below" / "bad.jpg").write_text("not an image either")
    done = vecserve("embed", "-m", IMAGE, "photos", "photos/[ab].jpg", "missing.jpg", code=1)
    items = [row["item"] for row in read_lines(done.stdout)]
    assert items == [
        *("photos/a.jpg", "photos/b.jpg", "photos/below/c.JPG"),
        *("photos/a.jpg", "photos/b.jpg"),
    ]
    assert "failed: photos/below/bad.jpg: " in done.stderr
    assert "failed: missing.jpg: cannot read missing.jpg: No such file" in done.stderr
    assert "5 embedded, 2 failed, 1 of other kinds skipped" in done.stderr
    assert "UNTRAINED: resnet-50" in done.stderr


def test_a_line_that_is_no_text(vecserve: Command, tmp_path: Path) -> None:
    done = vecserve("embed", "-m", TEXT, "-o", "out.jsonl", stdin=b"one\n\xff\xfe\nthree", code=1)
    assert "failed: line 2: not UTF-8" in done.stderr
    rows = read_lines((tmp_path / "out.jsonl").read_text())
    assert [row["item"] for row in rows] == ["one", "three"]


def test_a_byte_order_mark_is_no_text(vecserve: Command, tmp_path: Path) -> None:
    (tmp_path / "marked.txt").write_bytes("\ufeffA cat".encode())
    done = vecserve(
        "embed", "-m", TEXT, "marked.txt", "-", "-t", "A cat", stdin=b"\xef\xbb\xbfA cat"
    )
    plain, marked, line = (row["vector"] for row in read_lines(done.stdout))
    np.testing.assert_allclose(marked, plain, atol=1e-5)
    np.testing.assert_allclose(line, plain, atol=1e-5)
    assert '"item": "A cat"' in done.stdout.splitlines()[2]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_named(vecserve: Command, tmp_path: Path, encoding: str) -> None:
    text = "A cat.\nAnother cat.\n".encode(encoding)
    (tmp_path / "wide.txt").write_bytes(text)
    done = vecserve("embed", "-m", TEXT, "wide.txt", "-", stdin=text, code=1)
    assert "failed: wide.txt: wide.txt is UTF-16 text: convert it, for instance with" in done.stderr
    assert "failed: line 1: UTF-16 text: convert it" in done.stderr
    assert "0 embedded, 2 failed" in done.stderr


def test_other_suffixes_of_what_a_model_takes_are_found_in_folders(
    vecserve: Command, photo: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    names = ("1.jfif", "2.jpe", "3.JIF", "4.pjpeg")
    for name in names:
        shutil.copy(photo, folder / name)
    (folder / "x.wave").touch()
    done = vecserve("embed", "-m", IMAGE, "photos")
    assert [row["item"] for row in read_lines(done.stdout)] == [f"photos/{name}" for name in names]
    assert "4 embedded, 0 failed, 1 of other kinds skipped" in done.stderr


def test_options_reach_the_server(vecserve: Command) -> None:
    done = vecserve("embed", "-m", TEXT, "-t", "A cat", "--no-normalize", "--pooling", "mean")
    assert np.linalg.norm(read_lines(done.stdout)[0]["vector"]) > 1.1
    done = vecserve("embed", "-m", TEXT, "-t", "A cat", "--pooling", "last", code=1)
    assert "no pooling 'last'" in done.stderr


def test_wrong_usage(vecserve: Command) -> None:
    assert "must end in .jsonl" in vecserve("embed", "-m", TEXT, "-o", "x.csv", code=2).stderr
    done = vecserve("embed", "-m", TEXT, "-o", "none/x.npy", code=2)
    assert "there is no folder none" in done.stderr
    vecserve("embed", "-t", "no model", code=2)
    done = vecserve("embed", "-m", "no-such-model", "-t", "a", code=1)
    assert "error: no model 'no-such-model'" in done.stderr
    done = vecserve("embed", "-m", TEXT, "-s", "127.0.0.1:1", "-t", "a", code=1)
    assert "no server answers at 127.0.0.1:1" in done.stderr


def test_two_prompts_are_wrong_usage(vecserve: Command) -> None:
    options = ("-m", TEXT, "-t", "a", "--input-type", "query", "--prompt", "query: ")
    assert "give one of them" in vecserve("embed", *options, code=2).stderr


def test_models_version_and_help(vecserve: Command) -> None:
    table = vecserve("models").stdout.splitlines()
    assert len(table) in (5, 6)  # SSCD, too, where it could be fetched
    (text,) = [line for line in table if line.startswith(TEXT)]
    assert "trained" in text
    assert "text (to 256 tokens)" in text
    (image,) = [line for line in table if line.startswith(IMAGE)]
    assert "UNTRAINED" in image
    assert vecserve("--version").stdout.startswith("vecserve ")
    assert "vecserve embed -m" in vecserve("--help").stdout
    assert "lines.npy < lines.txt" in vecserve("embed", "--help").stdout


def test_lines_are_answered_as_they_come_and_ctrl_c_is_neat(vecserve: Command) -> None:
    process = vecserve.start("embed", "-m", TEXT, "-")
    assert process.stdin
    assert process.stdout
    for line in (b"one\n", b"two\n"):
        process.stdin.write(line)
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["item"] == line.decode().strip()
    process.send_signal(signal.SIGINT)
    assert process.wait(TIMEOUT_S) == 130  # with stdin still open, as on a terminal
    _, stderr = process.communicate()
    assert b"stopped" in stderr
    assert b"Traceback" not in stderr
    assert b"Fatal" not in stderr


def test_ctrl_c_leaves_no_half_file(vecserve: Command, tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_text("from before\n")
    process = vecserve.start("embed", "-m", TEXT, "missing.txt", "-", "-o", "out.jsonl")
    assert process.stderr
    assert b"missing.txt" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(TIMEOUT_S) == 130  # with stdin still open, as on a terminal
    _, stderr = process.communicate()
    assert b"out.jsonl was not written" in stderr
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]
    assert (tmp_path / "out.jsonl").read_text() == "from before\n"


def test_a_reader_that_leaves_is_no_failure_to_shout_about(vecserve: Command) -> None:
    process = vecserve.start("embed", "-m", TEXT, "-")
    assert process.stdin
    assert process.stdout
    assert process.stderr
    process.stdin.write(b"a line\n" * 3000)
    process.stdin.close()
    assert process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(TIMEOUT_S) != 0
    process.stderr.close()
