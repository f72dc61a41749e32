"""Units of the bench: workloads, arrivals, percentiles, intervals, /proc."""

import json
import math
import os
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from tests.conftest import ROOT
from vecserve import Client
from vecserve.bench import processes
from vecserve.bench.load import Load, RoundSpec
from vecserve.bench.plots import draw
from vecserve.bench.statistics import Estimate, percentile
from vecserve.bench.workload import lengths, texts, token_ids

MIXED = Load(tokens=(3, 60))


@pytest.mark.parametrize("model", ["all-MiniLM-L6-v2", "clip-vit-base-patch32"])
def test_texts_have_the_tokens_asked_for(server_address: str, model: str) -> None:
    with Client(server_address) as client:
        results = list(client.embed_stream(model, texts(MIXED, 64), ordered=True))
    assert [result.token_count for result in results] == lengths(MIXED, 64)


def test_lengths_cover_the_range_in_every_block() -> None:
    found = lengths(Load(tokens=(3, 209)), 512)
    assert found == lengths(Load(tokens=(3, 209)), 512)
    assert 3 <= min(found) <= max(found) <= 209
    for start in range(0, 512, 32):
        block = found[start : start + 32]
        assert block != sorted(block)
        assert abs(sum(block) / 32 - 106) < 5
    assert [len(ids) for ids in token_ids(MIXED, 64)] == lengths(MIXED, 64)


def test_arrivals_are_the_same_for_every_target_and_differ_by_client() -> None:
    load = Load(rate=100)
    first = list(islice(load.send_times(1, (0, 2)), 1000))
    assert first == list(islice(load.send_times(1, (0, 2)), 1000))
    assert first != list(islice(load.send_times(1, (1, 2)), 1000))
    assert first != list(islice(load.send_times(2, (0, 2)), 1000))
    # Half of 100 a second, give or take five standard deviations.
    assert abs(first[-1] - 20) < 5 * 20 / math.sqrt(1000)


def test_a_trace_is_dealt_out_and_starts_anew() -> None:
    load = Load(trace=(0.0, 1.0, 2.0))
    shares = [list(islice(load.send_times(0, (which, 2)), 3)) for which in range(2)]
    assert sorted([*shares[0], *shares[1]]) == pytest.approx([0, 1, 2, 3, 4, 5])


def test_loads_survive_the_pipe() -> None:
    spec = RoundSpec(
        load=Load(tokens=(3, 9), rate=2.5, files=("a",)), round=3, lead_s=0.1, seconds=2
    )
    assert RoundSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_percentiles_are_exact() -> None:
    ordered = [float(value) for value in range(1, 101)]
    assert [percentile(ordered, of) for of in (1, 50, 99, 99.9, 100)] == [1, 50, 99, 100, 100]
    assert percentile([7.0], 50) == 7
    assert math.isnan(percentile([], 50))


def test_intervals_are_students() -> None:
    estimate = Estimate.of([1.0, 2.0, 3.0])
    assert estimate.mean == 2
    assert estimate.margin == pytest.approx(4.303 / math.sqrt(3))
    assert Estimate.of([5.0]).margin == math.inf


def test_a_process_and_its_children_are_accounted_for() -> None:
    program = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE) as parent:
        while len(processes.tree(parent.pid)) < 2:
            assert parent.poll() is None
        assert processes.pss_mb(parent.pid) > 1
        assert parent.stdin
        parent.stdin.close()
    assert processes.tree(parent.pid) == []
    assert processes.cpu_s(os.getpid()) > 0


def test_make_bench_reports_its_thresholds(tmp_path: Path) -> None:
    output = tmp_path / "here.json"
    command = [sys.executable, "-m", "benchmarks.run", "scheduler", "--output", str(output)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "scheduler, 10,000 queued" in done.stdout
    measured = json.loads(output.read_text())
    assert [one["threshold"] for one in measured["thresholds"]] == ["<= 20 us", "<= 20 us"]
    assert all(one["met"] == (one["measured"] <= 20) for one in measured["thresholds"])


def test_committed_results_draw_and_the_page_has_all_of_them(tmp_path: Path) -> None:
    path = ROOT / "benchmarks" / "results" / "epyc-2-cores.json"
    measured = json.loads(path.read_text())
    _, page = draw(measured, tmp_path, titles={"16 tokens", "3-209 tokens"})
    html = page.read_text()
    assert html.count('<g id="axes_') == 2
    assert html.count("<tr><td>") == len(measured["results"]) + len(measured["environment"])
