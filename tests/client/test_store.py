"""`vecserve index` and `search`, on a Milvus Lite file, a Milvus server by URI, and Parquet.

VECSERVE_KILL_ITEMS and VECSERVE_KILL_MOMENTS make the test that kills the command longer.
"""

import contextlib
import datetime
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import soundfile

from tests.support import video_bundle
from tests.support.server_process import ServerProcess
from tests.support.testdata import clips
from tests.support.vecserve_command import TIMEOUT_S, VecserveCommand, command_line
from vecserve import Client
from vecserve.store import open_store
from vecserve.store.records import Known

TEXT = "all-MiniLM-L6-v2"
IMAGE = "resnet-50"
AUDIO = "whisper-base"
KILL_ITEMS = int(os.environ.get("VECSERVE_KILL_ITEMS", "400"))
KILL_MOMENTS = int(os.environ.get("VECSERVE_KILL_MOMENTS", "3"))


@pytest.fixture(scope="module")
def milvus_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Milvus server on loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("milvus")
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "milvus_lite", "server"),
            *("--data-dir", str(folder / "data"), "--host", "127.0.0.1", "--port", str(port)),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        connect_to(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def connect_to(port: int, process: subprocess.Popen[bytes]) -> None:
    import grpc

    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        grpc.channel_ready_future(channel).result(timeout=TIMEOUT_S)
    assert process.poll() is None


@pytest.fixture(params=["lite", "server", "parquet"])
def into(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where vectors go."""
    if request.param == "server":
        uri: str = request.getfixturevalue("milvus_uri")
        return uri
    return str(tmp_path / ("vectors.db" if request.param == "lite" else "vectors.parquet"))


@pytest.fixture
def collection(request: pytest.FixtureRequest) -> str:
    """A name of the test's own, since all share one Milvus server."""
    return re.sub(r"\W", "_", request.node.name)


class Command(VecserveCommand):
    """`vecserve index` and `search` in a process, on one collection."""

    def __init__(self, server: str, folder: Path, into: str, collection: str) -> None:
        super().__init__(server, folder, COLUMNS="200")
        self.into = into
        self.collection = collection

    def arguments(self, name: str, *arguments: str | Path) -> list[str | Path]:
        return [name, *arguments, "--into", self.into, "--collection", self.collection]

    def __call__(
        self, name: str, *arguments: str | Path, stdin: str = "", code: int = 0
    ) -> subprocess.CompletedProcess[str]:
        return self.run(*self.arguments(name, *arguments), stdin=stdin, code=code)

    def search(self, query: str | Path, *arguments: str | Path) -> list[dict[str, Any]]:
        done = self("search", query, "--json", *arguments)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def known(self) -> dict[str, Known]:
        with open_store(self.into, self.collection) as store:
            return {known.key: known for known in store.known()}


@pytest.fixture
def vecserve(server_address: str, tmp_path: Path, into: str, collection: str) -> Command:
    return Command(server_address, tmp_path, into, collection)


def sentences(count: int) -> list[str]:
    """Texts, all different."""
    things = ("dog", "ship", "stone", "song", "letter", "river", "engine")
    return [f"The {things[n % 7]} number {n} of {n * 31 % 97}." for n in range(count)]


def test_lines_of_stdin_are_found_as_brute_force_finds_them(
    vecserve: Command, client: Client
) -> None:
    lines = sentences(600)
    done = vecserve("index", "-", "-m", TEXT, stdin="\n".join(lines))
    assert "600 embedded, 0 unchanged, 0 failed" in done.stderr
    vectors = client.embed(TEXT, lines)
    [query] = client.embed(TEXT, ["a boat on the water"])
    hits = vecserve.search("a boat on the water", "--top", "10")
    scores = vectors @ query
    nearest = np.argsort(-scores)[:10]
    assert {hit["metadata"]["text"] for hit in hits} == {lines[n] for n in nearest}
    np.testing.assert_allclose([hit["score"] for hit in hits], scores[nearest], atol=1e-4)
    assert "600 unchanged" in vecserve("index", "-", "-m", TEXT, stdin="\n".join(lines)).stderr
    table = vecserve("search", "a boat on the water", "-k", "2").stdout
    assert "ship" in table
    assert "rank" in table


def test_rows_with_metadata_are_filtered(vecserve: Command, tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"id": "a", "text": "A dog runs.", "year": 2019},
        {"id": "b", "text": "A puppy plays.", "year": 2024},
        {"id": "c", "text": "Stocks fell.", "year": 2024},
        {"text": "Taken.", "vector": 1},
        {"neither": 1},
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\nnot json\n")
    done = vecserve("index", "rows.jsonl", "-m", TEXT, code=1)
    assert "3 embedded, 0 unchanged, 3 failed" in done.stderr
    assert "failed: rows.jsonl, line 4: vector: a field of every record" in done.stderr
    hits = vecserve.search("a dog", "--filter", "year >= 2020 and modality == 'text'")
    assert [hit["metadata"]["id"] for hit in hits] == ["b", "c"]
    assert hits[0]["path"] == f"{tmp_path}/rows.jsonl#b"
    assert "error:" in vecserve("search", "a", "--filter", "year >=", code=1).stderr
    rows[0]["text"] = "A cat sleeps."
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows[:2])))
    again = vecserve("index", "rows.jsonl", "-m", TEXT, "--prune")
    assert "1 embedded, 1 unchanged" in again.stderr
    assert f"gone: {tmp_path}/rows.jsonl#c" in again.stderr
    assert "1 vectors of 1 items stay; --yes removes them" in again.stderr
    assert len(vecserve.known()) == 3
    vecserve("index", "rows.jsonl", "-m", TEXT, "--prune", "--yes")
    assert {hit["metadata"]["text"] for hit in vecserve.search("a")} == {
        "A cat sleeps.",
        "A puppy plays.",
    }


def test_rows_of_a_parquet_file(server_address: str, tmp_path: Path, collection: str) -> None:
    vecserve = Command(server_address, tmp_path, str(tmp_path / "vectors.db"), collection)
    days = [datetime.date(2024, 5, day) for day in (1, 2, 3)]
    table = {
        "id": ["a", None, "c"],
        "text": ["A dog runs.", "A puppy plays.", None],
        "day": days,
        "year": [2024, None, 2022],
    }
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "rows.parquet")
    done = vecserve("index", "rows.parquet", "-m", TEXT, code=1)
    assert "2 embedded, 0 unchanged, 1 failed" in done.stderr
    assert 'failed: rows.parquet, row 3: not an object with a "text" or a "path"' in done.stderr
    found = {hit["path"]: hit["metadata"] for hit in vecserve.search("a dog")}
    [(_, unnamed)] = [own for own in found.items() if not own[0].endswith("#a")]
    assert found[f"{tmp_path}/rows.parquet#a"] == {
        **{"id": "a", "text": "A dog runs.", "day": "2024-05-01", "year": 2024}
    }
    assert unnamed == {"text": "A puppy plays.", "day": "2024-05-02"}
    assert "2 unchanged" in vecserve("index", "rows.parquet", "-m", TEXT, code=1).stderr
    (tmp_path / "broken.parquet").write_text("no table")
    done = vecserve("index", "broken.parquet", "-m", TEXT, code=1)
    assert "failed: broken.parquet: cannot read broken.parquet: " in done.stderr


def test_photos_changed_vanished_and_broken(vecserve: Command, photo: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    photos = sorted(photo.parent.glob("*.jpg"))[:4]
    for path in photos:
        shutil.copy(path, folder)
    (folder / "broken.jpg").write_text("no photo")
    done = vecserve("index", "photos", "-m", IMAGE, code=1)
    assert "4 embedded, 0 unchanged, 1 failed" in done.stderr
    assert f"failed: {folder}/broken.jpg: " in done.stderr
    assert vecserve.search(photos[1], "-k", "1")[0]["path"] == str(folder / photos[1].name)
    shutil.copy(photos[1], folder / photos[0].name)
    (folder / photos[2].name).unlink()
    done = vecserve("index", "photos", "-m", IMAGE, "--prune", "--yes", code=1)
    assert "1 embedded, 3 unchanged" not in done.stderr
    assert "1 embedded, 2 unchanged, 1 failed" in done.stderr
    assert "not pruned: items failed" in done.stderr
    (folder / "broken.jpg").unlink()
    vecserve("index", "photos", "-m", IMAGE, "--prune", "--yes")
    assert {known.path for known in vecserve.known().values()} == {
        str(folder / photos[n].name) for n in (0, 1, 3)
    }
    hits = vecserve.search(photos[1], "-k", "2")
    assert {Path(hit["path"]).name for hit in hits} == {photos[0].name, photos[1].name}
    assert "there is no file gone.jpg" in vecserve("search", "gone.jpg", code=2).stderr


def test_windows_of_a_long_recording(vecserve: Command, speech: Path, tmp_path: Path) -> None:
    talk = tmp_path / "talk.wav"
    samples, rate = soundfile.read(speech, dtype="int16")
    samples = np.resize(samples, 70 * rate)
    soundfile.write(talk, samples, rate)
    vecserve("index", "talk.wav", "-m", AUDIO)
    hits = vecserve.search(speech)
    assert sorted(hit["start_s"] for hit in hits) == [0.0, 30.0, 60.0]
    assert max(hit["end_s"] for hit in hits) == pytest.approx(70.0, abs=0.1)
    soundfile.write(talk, samples[: 20 * rate], rate)  # shorter now: two windows are gone
    vecserve("index", "talk.wav", "-m", AUDIO)
    assert [(hit["start_s"], hit["end_s"]) for hit in vecserve.search(speech)] == [(0.0, 20.0)]
    vecserve("search", speech, "--html", "found.html")
    page = (tmp_path / "found.html").read_text()
    assert '<audio controls preload="metadata" data-start="0" src="data:audio/wav;base64,' in page


def test_vectors_of_another_model_are_refused(vecserve: Command) -> None:
    assert "there is no collection" in vecserve("search", "a", code=1).stderr
    vecserve("index", "-", "-m", TEXT, stdin="a line")
    for other in (["-m", "clip-vit-base-patch32"], ["-m", TEXT, "--prompt", "query: "]):
        done = vecserve("index", "-", *other, stdin="a line", code=1)
        assert f"holds vectors of {TEXT} version 1 (384 dimensions, cosine), not of" in done.stderr
    assert len(vecserve.known()) == 1


def test_killed_at_any_moment_and_resumed(
    vecserve: Command, tmp_path: Path, collection: str
) -> None:
    if vecserve.into.startswith("http"):
        pytest.skip("the client is killed, not the server: the Lite file's test covers it")
    lines = "\n".join(sentences(KILL_ITEMS)).encode()
    started = time.monotonic()
    vecserve("index", "-", "-m", TEXT, stdin=lines.decode())
    duration_s = time.monotonic() - started
    whole = vecserve.known()
    assert len(whole) == KILL_ITEMS
    moments = random.Random(0)
    for moment in range(KILL_MOMENTS):
        vecserve.collection = f"{collection}_{moment}"
        process = subprocess.Popen(
            command_line(*vecserve.arguments("index", "-", "-m", TEXT)),
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=vecserve.environment,
            cwd=tmp_path,
        )
        # It may die before it opens the store, between two upserts or in one.
        with contextlib.suppress(BrokenPipeError):
            assert process.stdin
            process.stdin.write(lines)
            process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(moments.uniform(0, duration_s))
        process.send_signal(signal.SIGKILL)
        process.wait()
        vecserve("index", "-", "-m", TEXT, stdin=lines.decode())
        assert vecserve.known() == whole


def test_a_page_of_photos_in_a_browser(
    server_address: str, photo: Path, tmp_path: Path, collection: str
) -> None:
    vecserve = Command(server_address, tmp_path, str(tmp_path / "vectors.db"), collection)
    vecserve("index", photo.parent, "-m", IMAGE)
    vecserve("search", photo, "-k", "5", "--html", "found.html")
    page = (tmp_path / "found.html").read_text()
    assert page.count('src="data:image/jpeg;base64,') == 5
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert "<script>alert" not in page
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("NOT LOOKED AT IN A BROWSER: there is no chromium here")
    # What the page is on a phone: every picture drawn, nothing wider than the screen.
    shown = in_browser(
        browser,
        tmp_path / "found.html",
        "JSON.stringify([[...document.images].filter(i => i.naturalWidth > 0).length, "
        "document.documentElement.scrollWidth <= innerWidth])",
    )
    assert shown == "[5,true]"


def in_browser(browser: str, page: Path, expression: str) -> str:
    """Return what a JavaScript expression is once the page is loaded."""
    # The event waits for pictures, and for what players say of themselves.
    report = f"addEventListener('load', () => {{ document.title = {expression}; }})"
    probe = page.with_name("probe.html")
    probe.write_text(page.read_text().replace("</html>", f"<script>{report}</script></html>"))
    shown = subprocess.run(
        [
            *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=500,900"),
            *(f"--user-data-dir={page.parent / 'profile'}", "--dump-dom", probe.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    found = re.search("<title>(.*)</title>", shown.stdout)
    assert found, shown.stderr
    return found[1]


def test_a_page_is_opened_in_the_browser(
    server_address: str, tmp_path: Path, collection: str
) -> None:
    vecserve = Command(server_address, tmp_path, str(tmp_path / "vectors.db"), collection)
    vecserve("index", "-", "-m", TEXT, stdin="A line.")
    browser = tmp_path / "browser"
    browser.write_text('#!/bin/sh\necho "$1" >> opened\n')
    browser.chmod(0o755)
    vecserve.environment |= {"BROWSER": f"{browser} %s", "TMPDIR": str(tmp_path)}
    vecserve("search", "a", "--open")
    vecserve("search", "a", "--open", "--html", "found.html")
    temporary, named = (tmp_path / "opened").read_text().splitlines()
    assert named == (tmp_path / "found.html").as_uri()
    assert "A line." in Path(temporary.removeprefix("file://")).read_text()
    vecserve.environment["BROWSER"] = "false %s"
    done = vecserve("search", "a", "--open", "--html", "found.html")
    assert "there is no browser here: open the page yourself" in done.stderr


def test_windows_of_a_video(tmp_path: Path, collection: str) -> None:
    repository = tmp_path / "repository"
    video_bundle.write_bundle(repository)
    video = tmp_path / "bunny.mp4"
    shutil.copy(clips()[-1], video)
    with ServerProcess(repository, "--max-video-windows", "3") as server:
        vecserve = Command(server.address, tmp_path, str(tmp_path / "vectors.db"), collection)
        vecserve("index", video, "-m", video_bundle.NAME)
        assert "1 unchanged" in vecserve("index", video, "-m", video_bundle.NAME).stderr
        hits = vecserve.search(video)
        vecserve("search", video, "-k", "3", "--html", "found.html")
    assert {hit["modality"] for hit in hits} == {"video"}
    starts = sorted(hit["start_s"] for hit in hits)
    assert starts[0] == 0
    assert [hit["end_s"] - hit["start_s"] for hit in hits] == pytest.approx([0.64] * 3, abs=0.01)
    assert starts[2] > starts[1] + 1
    page = (tmp_path / "found.html").read_text()
    assert page.count('<video controls preload="metadata"') == 3
    assert page.count("data:video/mp4;base64,") == 1
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("NOT LOOKED AT IN A BROWSER: there is no chromium here")
    times = in_browser(
        browser,
        tmp_path / "found.html",
        "JSON.stringify([...document.querySelectorAll('video')].map(v => v.currentTime))",
    )
    assert sorted(json.loads(times)) == pytest.approx(starts, abs=0.01)
