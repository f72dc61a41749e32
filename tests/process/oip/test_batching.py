"""Requests share batches, and no answer depends on who shared one.

Queues are held: each test sends as many rows as a batch of its model may have, and all of them
wait before the first one runs.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient
from tritonclient.grpc.aio import InferenceServerClient as AsyncClient

from tests.contract.oip.requests import inputs, run, tokens
from tests.process.oip.graphs import (
    difference_of_signals,
    mean_of_numbers,
    mean_of_tokens,
    rounded_by_hand,
    rounded_layers,
    rows_of_seven,
    save,
    self_attention,
    softmax_of_rows,
)
from tests.support import held_queue
from tests.support.held_queue import held_until
from tests.support.server_process import ServerProcess

Feeds = dict[str, np.ndarray]
# Numbers of a row of the quantized graphs.
SIZE = 64


@pytest.fixture(scope="module")
def held_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("held")
    save(folder, "attention", self_attention(), config=held_until(36))
    save(folder, "attends-to-all", self_attention(), config=held_until(12))
    save(folder, "masked", mean_of_tokens(masked=True), config=held_until(12))
    named = mean_of_tokens(masked=True, mask="valid")
    save(folder, "named-mask", named, config=held_until(12) | {"mask_input": "valid"})
    without = held_until(12) | {"mask_input": None}
    save(folder, "no-mask", mean_of_tokens(masked=True), config=without)
    save(folder, "unmasked", mean_of_numbers(), config=held_until(12))
    save(folder, "ignores-mask", mean_of_tokens(masked=False), config=held_until(12))
    cold = held_until(120) | {"warm_up": False}
    save(folder, "ignores-mask-cold", mean_of_tokens(masked=False), config=cold)
    save(folder, "mixes-rows", softmax_of_rows(), config=held_until(16))
    save(folder, "rounded", rounded_layers(SIZE), config=held_until(8))
    save(folder, "rounded-by-hand", rounded_by_hand(SIZE), config=held_until(8))
    allowed = held_until(8) | {"share_batches": True}
    save(folder, "rounded-together", rounded_layers(SIZE), config=allowed)
    save(folder, "untried", rows_of_seven(), config=held_until(8))
    forbidden = held_until(8) | {"share_batches": False}
    save(folder, "forbidden", mean_of_numbers(), config=forbidden)
    save(folder, "signals", difference_of_signals(), config=held_until(8))
    return folder


@pytest.fixture(scope="module")
def held_server(held_repository: Path) -> Iterator[ServerProcess]:
    with ServerProcess(held_repository, *held_queue.FLAGS) as process:
        yield process
        log = process.log
    assert "Traceback" not in log


@pytest.fixture
def held(held_server: ServerProcess) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(held_server.address) as client:
        yield client


async def answers(address: str, model: str, requests: list[Feeds], output: str) -> list[np.ndarray]:
    """Send all at once; their answers in their order."""
    async with AsyncClient(address) as client:
        results = await asyncio.gather(
            *(client.infer(model, inputs(**feeds)) for feeds in requests)
        )
    return [result.as_numpy(output) for result in results]


def batch_sizes(client: InferenceServerClient, model: str) -> dict[int, int]:
    """How many batches of each size a model ran."""
    (stats,) = client.get_inference_statistics(model).model_stats
    return {entry.batch_size: entry.compute_infer.count for entry in stats.batch_stats}


async def test_lengths_mix_under_a_mask(
    held_server: ServerProcess, held: InferenceServerClient, held_repository: Path
) -> None:
    rng = np.random.default_rng(0)
    requests = [tokens(rng, rows, length, 100) for rows in (1, 2) for length in range(3, 15)]
    path = held_repository / "attention" / "1" / "model.onnx"
    for output in ("pooled", "tokens"):
        got = await answers(held_server.address, "attention", requests, output)
        for feeds, values in zip(requests, got, strict=True):
            want = run(path, **feeds)[output]
            assert values.shape == want.shape
            assert np.abs(values - want).max() <= 1e-5
    # One and two rows of a length: more than three only together with other lengths.
    sizes = batch_sizes(held, "attention")
    assert max(sizes) > 3
    # Each batch is counted once, however many requests it held.
    (stats,) = held.get_inference_statistics("attention").model_stats
    assert sum(size * count for size, count in sizes.items()) == stats.inference_count


async def test_the_config_names_the_mask_or_says_that_there_is_none(
    held_server: ServerProcess, held: InferenceServerClient, held_repository: Path
) -> None:
    rng = np.random.default_rng(6)
    requests = [tokens(rng, 1, length, 100) for length in range(3, 15)]
    renamed = [{"input_ids": r["input_ids"], "valid": r["attention_mask"]} for r in requests]
    for model, feeds in (("named-mask", renamed), ("no-mask", requests)):
        path = held_repository / model / "1" / "model.onnx"
        got = await answers(held_server.address, model, feeds, "pooled")
        for feed, values in zip(feeds, got, strict=True):
            assert np.abs(values - run(path, **feed)["pooled"]).max() <= 1e-6
    # No two have one length.
    assert max(batch_sizes(held, "named-mask")) > 1
    assert set(batch_sizes(held, "no-mask")) == {1}


@pytest.mark.parametrize("model", ["unmasked", "ignores-mask"])
async def test_only_equal_shapes_share_batches_without_a_mask(
    held_server: ServerProcess,
    held: InferenceServerClient,
    held_repository: Path,
    model: str,
) -> None:
    rng = np.random.default_rng(2)
    requests: list[Feeds] = []
    for length in (3, 4, 5) * 4:
        requests.append(
            {"x": rng.standard_normal((1, length)).astype(np.float32)}
            if model == "unmasked"
            else tokens(rng, 1, length, 100)
        )
    output = "y" if model == "unmasked" else "pooled"
    got = await answers(held_server.address, model, requests, output)
    for feeds, values in zip(requests, got, strict=True):
        want = run(held_repository / model / "1" / "model.onnx", **feeds)[output]
        assert np.abs(values - want).max() <= 1e-6
    sizes = batch_sizes(held, model)
    assert max(sizes) > 1
    assert max(sizes) <= 4


async def test_what_is_not_warmed_up_is_tried_out_all_the_same(
    held_server: ServerProcess, held_repository: Path
) -> None:
    rng = np.random.default_rng(7)
    path = held_repository / "ignores-mask-cold" / "1" / "model.onnx"
    # What batching saves is only learned from requests here, so it takes some.
    requests = [tokens(rng, 1, length, 100) for length in range(3, 15)] * 10
    got = await answers(held_server.address, "ignores-mask-cold", requests, "pooled")
    for feeds, values in zip(requests, got, strict=True):
        assert np.abs(values - run(path, **feeds)["pooled"]).max() <= 1e-6


def test_a_mask_that_changes_outputs_is_not_used(held_server: ServerProcess) -> None:
    assert "ignores-mask: padding changes its outputs" in held_server.log


async def test_a_graph_that_mixes_rows_runs_requests_alone(
    held_server: ServerProcess, held: InferenceServerClient, held_repository: Path
) -> None:
    rng = np.random.default_rng(3)
    requests = [{"x": rng.standard_normal((2, 3)).astype(np.float32)} for _ in range(8)]
    got = await answers(held_server.address, "mixes-rows", requests, "y")
    for feeds, values in zip(requests, got, strict=True):
        path = held_repository / "mixes-rows" / "1" / "model.onnx"
        assert np.array_equal(values, run(path, **feeds)["y"])
    assert set(batch_sizes(held, "mixes-rows")) == {2}


@pytest.mark.parametrize(
    ("model", "size"),
    [("rounded", SIZE), ("rounded-by-hand", SIZE), ("untried", 7), ("forbidden", 5)],
)
async def test_what_is_not_known_to_keep_rows_apart_runs_requests_alone(
    held_server: ServerProcess,
    held: InferenceServerClient,
    held_repository: Path,
    model: str,
    size: int,
) -> None:
    rng = np.random.default_rng(8)
    # Of unlike scale: the large ones would leave nothing of the small ones.
    requests = [
        {"x": (scale * rng.standard_normal((1, size))).astype(np.float32)} for scale in (1, 100) * 4
    ]
    got = await answers(held_server.address, model, requests, "y")
    path = held_repository / model / "1" / "model.onnx"
    for feeds, values in zip(requests, got, strict=True):
        assert np.array_equal(values, run(path, **feeds)["y"])
    assert set(batch_sizes(held, model)) == {1}


async def test_the_config_has_the_last_word_on_sharing(
    held_server: ServerProcess, held: InferenceServerClient
) -> None:
    requests = [{"x": np.ones((1, SIZE), dtype=np.float32)} for _ in range(8)]
    await answers(held_server.address, "rounded-together", requests, "y")
    assert max(batch_sizes(held, "rounded-together")) > 1
    warned = [line for line in held_server.log.splitlines() if "every request runs alone" in line]
    names = ("mixes-rows", "rounded", "rounded-by-hand", "untried")
    for name, line in zip(names, sorted(warned), strict=True):
        assert f" {name}: " in line
    assert all("set share_batches to true" in line for line in warned)


async def test_long_signals_share_batches(
    held_server: ServerProcess, held: InferenceServerClient, held_repository: Path
) -> None:
    rng = np.random.default_rng(9)
    requests = [
        {name: rng.standard_normal((1, 16_000)).astype(np.float32) for name in "ab"}
        for _ in range(8)
    ]
    got = await answers(held_server.address, "signals", requests, "y")
    path = held_repository / "signals" / "1" / "model.onnx"
    for feeds, values in zip(requests, got, strict=True):
        assert np.abs(values - run(path, **feeds)["y"]).max() <= 1e-6
    assert max(batch_sizes(held, "signals")) > 1


async def test_a_row_that_masks_everything_is_not_padded(
    held_server: ServerProcess, held_repository: Path
) -> None:
    # With nothing to attend to, a row attends to all positions, padding too.
    rng = np.random.default_rng(4)
    requests = [tokens(rng, 1, length, 100) for length in range(3, 15)]
    requests[0]["attention_mask"][:] = 0
    output = "tokens"
    got = await answers(held_server.address, "attends-to-all", requests, output)
    path = held_repository / "attends-to-all" / "1" / "model.onnx"
    for feeds, values in zip(requests, got, strict=True):
        assert np.abs(values - run(path, **feeds)[output]).max() <= 1e-5


async def test_a_poisonous_request_fails_alone(
    held_server: ServerProcess, held_repository: Path
) -> None:
    rng = np.random.default_rng(5)
    requests = [tokens(rng, 1, 20, 100) for _ in range(12)]
    requests[5]["input_ids"][0, 3] = 1000
    async with AsyncClient(held_server.address) as client:
        results = await asyncio.gather(
            *(client.infer("masked", inputs(**feeds)) for feeds in requests),
            return_exceptions=True,
        )
    for number, (feeds, result) in enumerate(zip(requests, results, strict=True)):
        if number == 5:
            assert "such as a token id outside its vocabulary" in str(result)
            continue
        assert not isinstance(result, BaseException), result
        want = run(held_repository / "masked" / "1" / "model.onnx", **feeds)["pooled"]
        assert np.abs(result.as_numpy("pooled") - want).max() <= 1e-6
