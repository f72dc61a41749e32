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
    mean_of_numbers,
    mean_of_tokens,
    save,
    self_attention,
    softmax_of_rows,
)
from tests.support import held_queue
from tests.support.held_queue import held_until
from tests.support.server_process import ServerProcess

Feeds = dict[str, np.ndarray]


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
