"""`vecserve bench run` against a real server: what it counts and writes."""

import json
import sys

import pytest

from tests.bench.conftest import Bench

MINILM = "all-MiniLM-L6-v2"
ALONE = ("--concurrency", "1")
SHORT = ("--rounds", "2", "--seconds", "0.3", "--lead-s", "0.1", "--warmup-s", "0.1")


def test_rounds_are_interleaved_over_targets_under_every_load(
    bench: Bench, server_address: str
) -> None:
    where = f"typed:{server_address}/{MINILM}"
    measured = bench.measure(
        *("run", "-t", f"a={where}", "-t", f"b={where}", "--concurrency", "1,4", *SHORT)
    )
    assert [(one["pressure"], one["target"]) for one in measured["results"]] == [
        *(("c1", "a"), ("c1", "b"), ("c4", "a"), ("c4", "b"))
    ]
    for one in measured["results"]:
        assert len(one["rounds"]) == 2
        assert one["errors"] == {}
        assert one["requests"] == sum(own["requests"] for own in one["rounds"]) > 0
        assert one["throughput"]["mean"] > 0
        latency = one["latency_ms"]
        assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["p100"]
        assert all(own["client_cpu_s"] > 0 for own in one["rounds"])
        assert one["untrained"] == []


def test_the_environment_is_recorded(bench: Bench, server_address: str) -> None:
    measured = bench.measure("run", "-t", f"typed:{server_address}/{MINILM}", *ALONE, *SHORT)
    environment = measured["environment"]
    assert environment["cpu"]
    assert environment["cores"] >= 1
    assert {"grpcio", "onnxruntime", "vecserve"} <= environment["packages"].keys()
    assert environment["python"] == sys.version.split()[0]
    assert environment.keys() >= {"date", "cpu_flags", "load_average", "revision", "system"}


@pytest.mark.parametrize("form", [[], ["--stream", "--in-flight", "2"]], ids=["unary", "stream"])
@pytest.mark.parametrize("when", [["--concurrency", "2"], ["--rate", "40"]], ids=["closed", "open"])
def test_every_form_of_load(
    bench: Bench, server_address: str, form: list[str], when: list[str]
) -> None:
    measured = bench.measure(
        *("run", "-t", f"ours=typed:{server_address}/{MINILM}", "--items", "3"),
        *("--tokens", "3..40", "--processes", "2", *form, *when, *SHORT),
    )
    (one,) = measured["results"]
    assert one["errors"] == {}
    answered = sum(own["answered"] for own in one["rounds"])
    assert answered >= 3 * one["requests"] > 0
    assert answered % 3 == 0


def test_models_and_media_alternate(bench: Bench, server_address: str) -> None:
    done = bench(
        *("run", "-t", f"ours=typed:{server_address}/resnet-50+{MINILM}", "--concurrency", "2"),
        *("--file", "examples/data/photos/dog-mastiff.jpg", *SHORT),
    )
    # The ResNet bundle of the tests has random weights, and everything that shows it says so.
    assert "ours UNTRAINED" in done.stdout


def test_server_processes_are_accounted_for(
    bench: Bench, server_address: str, server: object
) -> None:
    pid = server.process.pid  # type: ignore[attr-defined]
    measured = bench.measure(
        *(
            "run",
            "-t",
            f"ours=typed:{server_address}/{MINILM}",
            "--pid",
            f"ours={pid}",
            *ALONE,
            *SHORT,
        )
    )
    for one in measured["results"][0]["rounds"]:
        assert one["server_cpu_s"] > 0
        assert one["server_pss_mb"] > 50


def test_in_process_runtime_is_a_target(bench: Bench, server_address: str) -> None:
    in_process = (
        f"in-process=exec:{sys.executable} benchmarks/baselines/in_process.py models/{MINILM}"
    )
    done = bench(
        *("run", "-t", f"ours=typed:{server_address}/{MINILM}", "-t", in_process),
        *("--concurrency", "1", "--reference", "in-process", *SHORT),
    )
    ours, in_process_row = done.stdout.splitlines()[-2:]
    assert "ours" in ours
    assert "threads, batches of 1" in in_process_row
    assert in_process_row.rstrip().endswith("1.00 ±0.00")


def test_oip_is_a_target(bench: Bench, server_address: str) -> None:
    measured = bench.measure(
        *("run", "-t", f"ours=oip:{server_address}/{MINILM}.text", "--tokens", "3..40"),
        *("--items", "2", "--concurrency", "2", *SHORT),
    )
    (one,) = measured["results"]
    assert one["errors"] == {}
    assert one["requests"] > 0


def test_plots(bench: Bench, server_address: str) -> None:
    where = f"ours=typed:{server_address}/{MINILM}"
    bench.measure("run", "-t", where, "--plots", str(bench.folder / "plots"), *ALONE, *SHORT)
    png, page = bench.folder / "plots/latency-throughput.png", bench.folder / "plots/report.html"
    assert png.read_bytes().startswith(b"\x89PNG")
    html = page.read_text()
    assert "<svg" in html
    assert "ours" in html
    # Self-contained: nothing is fetched.
    assert "src=" not in html
    assert "<link" not in html
    again = bench.folder / "again"
    bench("plot", str(bench.folder / "measured.json"), str(again))
    assert (again / "report.html").read_text().count("<tr>") == html.count("<tr>")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-t", "nonsense"], "NAME=typed:HOST:PORT/MODEL"),
        (["-t", "a=typed:127.0.0.1:1"], "names no model"),
        (["-t", "a=typed:127.0.0.1:1/m"], "no server answers"),
        (["-t", "a=oip:127.0.0.1:1/m"], "gives no metadata"),
        (["-t", "a=exec:/no/such/program"], "cannot run"),
        (["-t", "a=exec:true"], "ended with code 0"),
        (["-t", "a=typed:h:1/m", "--tokens", "1"], "--tokens"),
        (["-t", "a=typed:h:1/m", "--rate", "fast"], "--rate"),
        (["-t", "a=typed:h:1/m", "--pid", "b=1"], "--pid"),
        (["-t", "a=typed:h:1/m", "--stream", "--in-flight", "100", "--concurrency", "8"], "lower"),
    ],
)
def test_what_cannot_be_measured_says_why(bench: Bench, arguments: list[str], says: str) -> None:
    assert says in bench("run", *arguments, *SHORT, code=1).stderr


def test_json_has_no_nan(bench: Bench, server_address: str) -> None:
    where = f"ours=typed:{server_address}/{MINILM}"
    measured = bench.measure("run", "-t", where, "--rounds", "1", "--seconds", "0.1", "--rate", "1")
    json.dumps(measured, allow_nan=False)
