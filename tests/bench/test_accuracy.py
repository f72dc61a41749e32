"""Accuracy of the figures, on a server with a known service time."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bench.conftest import Bench

SERVICE_S = 0.02
GAP_S = 0.005
REQUESTS = 60
# Between the last of them and the next that a trace started anew would have.
SECONDS = (REQUESTS - 0.5) * GAP_S
ONE_ROUND = ("--rounds", "1", "--lead-s", "0", "--warmup-s", "0")


@pytest.fixture
def arrivals(tmp_path: Path) -> str:
    """Send times four times as dense as the slow server can follow."""
    path = tmp_path / "arrivals.txt"
    path.write_text("\n".join(f"{number * GAP_S:.3f}" for number in range(REQUESTS)))
    return str(path)


@pytest.mark.parametrize(
    "form", [[], ["--stream", "--concurrency", "1"]], ids=["unary", "stream of one in flight"]
)
def test_latency_counts_from_the_intended_send_time(
    bench: Bench, slow_server: Callable[[float], str], arrivals: str, form: list[str]
) -> None:
    """The n-th answer cannot come before n service times; its request was due at n gaps."""
    where = f"slow=typed:{slow_server(SERVICE_S)}/model"
    measured = bench.measure(
        *("run", "-t", where, "--arrivals", arrivals, "--seconds", str(SECONDS), *form, *ONE_ROUND)
    )
    (one,) = measured["results"]
    assert one["errors"] == {}
    assert one["requests"] == REQUESTS
    least_ms = 1000 * (REQUESTS * SERVICE_S - SECONDS)
    assert one["latency_ms"]["p100"] >= least_ms
    assert one["latency_ms"]["p50"] >= least_ms / 2
    assert one["throughput"]["mean"] <= 1 / SERVICE_S + 1


@pytest.mark.parametrize(
    "form",
    [["--concurrency", "16"], ["--stream", "--concurrency", "1", "--in-flight", "16"]],
    ids=["unary", "stream"],
)
def test_a_closed_loop_counts_no_more_than_the_server_does(
    bench: Bench, slow_server: Callable[[float], str], form: list[str]
) -> None:
    """Sixteen in flight wait for each other, longer than is measured."""
    where = f"slow=typed:{slow_server(SERVICE_S)}/model"
    measured = bench.measure("run", "-t", where, *form, "--seconds", "0.2", *ONE_ROUND)
    (one,) = measured["results"]
    assert one["errors"] == {}
    assert one["throughput"]["mean"] <= 1 / SERVICE_S + 1


def test_goodput_is_the_share_in_time(
    bench: Bench, slow_server: Callable[[float], str], arrivals: str
) -> None:
    where = f"slow=typed:{slow_server(SERVICE_S)}/model"
    common = ["run", "-t", where, "--arrivals", arrivals, "--seconds", str(SECONDS), *ONE_ROUND]
    measured = bench.measure(*common, "--deadline-ms", "100", "--no-tell-deadline")
    (one,) = measured["results"]
    assert one["errors"] == {}
    # The n-th takes at least 15 n + 5 ms.
    assert one["goodput"]["mean"] <= 6 / REQUESTS
    assert one["latency_ms"]["p50"] > 100
    measured = bench.measure(*common, "--deadline-ms", "100")
    (one,) = measured["results"]
    assert set(one["errors"]) == {"DEADLINE_EXCEEDED"}
    assert one["requests"] == REQUESTS
    assert one["errors"]["DEADLINE_EXCEEDED"] >= REQUESTS - 6


@pytest.mark.parametrize("form", [[], ["--stream"]], ids=["unary", "stream"])
def test_failed_items_are_counted_and_enter_no_latency(
    bench: Bench, slow_server: Callable[[float], str], form: list[str]
) -> None:
    where = f"slow=typed:{slow_server(0.001)}/model"
    measured = bench.measure(
        *("run", "-t", where, "--concurrency", "1", "--items", "2", "--seconds", "0.5"),
        *(*form, *ONE_ROUND),
    )
    (one,) = measured["results"][0]["rounds"]
    failed, answered = one["errors"]["INTERNAL"], one["answered"]
    assert failed > 0
    assert (failed + answered) % 2 == 0
    # Every other message has one.
    assert abs(answered - 3 * failed) <= 3
    assert one["throughput"] <= answered / 0.5


def test_a_refused_first_request_ends_the_run(bench: Bench, server_address: str) -> None:
    done = bench("run", "-t", f"ours=typed:{server_address}/no-such-model", code=1)
    assert "no-such-model" in done.stderr


@pytest.mark.parametrize("form", [[], ["--stream"]], ids=["unary", "stream"])
def test_sweep_finds_no_more_than_there_is(
    bench: Bench, slow_server: Callable[[float], str], form: list[str]
) -> None:
    service_s = 0.01
    measured = bench.measure(
        *("sweep", "-t", f"slow=typed:{slow_server(service_s)}/model", "--p99-ms", "200"),
        *("--seconds", "0.5", "--lead-s", "0", "--start-rate", "20", "--tolerance", "0.3", *form),
    )
    steps = measured["steps"]
    assert steps[0]["rate"] == 20
    held = [step["rate"] for step in steps if step["held"]]
    assert measured["highest_rate"]["slow"] == max(held, default=None)
    # In half a second at twice what it can do, the last requests wait half a second.
    assert not [step for step in steps if step["held"] and step["rate"] >= 4 / service_s]
    assert any(not step["held"] for step in steps)
