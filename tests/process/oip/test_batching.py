"""Requests share batches, and no answer depends on who shared one."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient
from tritonclient.grpc.aio import InferenceServerClient as AsyncClient

from tests.contract.oip.requests import inputs, run, tokens
from tests.support.server_process import ServerProcess

Feeds = dict[str, np.ndarray]


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
    plain_server: ServerProcess, plain: InferenceServerClient, plain_repository: Path
) -> None:
    rng = np.random.default_rng(0)
    requests = [tokens(rng, rows, length, 30_000) for rows in (1, 2) for length in range(3, 15)]
    path = plain_repository / "transformer" / "1" / "model.onnx"
    for output in ("sentence_embedding", "token_embeddings"):
        got = await answers(plain_server.address, "transformer", requests, output)
        for feeds, values in zip(requests, got, strict=True):
            want = run(path, **feeds)[output]
            assert values.shape == want.shape
            assert np.abs(values - want).max() <= 1e-5
    # One and two rows of a length: more than three only together with other lengths.
    sizes = batch_sizes(plain, "transformer")
    assert max(sizes) > 3
    # Each batch is counted once, however many requests it held.
    (stats,) = plain.get_inference_statistics("transformer").model_stats
    assert sum(size * count for size, count in sizes.items()) == stats.inference_count


async def test_the_config_names_the_mask_or_says_that_there_is_none(
    plain_server: ServerProcess, plain: InferenceServerClient, plain_repository: Path
) -> None:
    rng = np.random.default_rng(6)
    requests = [tokens(rng, 1, length, 100) for length in range(3, 15)]
    renamed = [{"input_ids": r["input_ids"], "valid": r["attention_mask"]} for r in requests]
    for model, feeds in (("named-mask", renamed), ("no-mask", requests)):
        path = plain_repository / model / "1" / "model.onnx"
        got = await answers(plain_server.address, model, feeds, "pooled")
        for feed, values in zip(feeds, got, strict=True):
            assert np.abs(values - run(path, **feed)["pooled"]).max() <= 1e-6
    # No two have one length.
    assert max(batch_sizes(plain, "named-mask")) > 1
    assert set(batch_sizes(plain, "no-mask")) == {1}


@pytest.mark.parametrize("model", ["unmasked", "ignores-mask"])
async def test_only_equal_shapes_share_batches_without_a_mask(
    plain_server: ServerProcess,
    plain: InferenceServerClient,
    plain_repository: Path,
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
    got = await answers(plain_server.address, model, requests, output)
    for feeds, values in zip(requests, got, strict=True):
        want = run(plain_repository / model / "1" / "model.onnx", **feeds)[output]
        assert np.abs(values - want).max() <= 1e-6
    sizes = batch_sizes(plain, model)
    assert max(sizes) > 1
    assert max(sizes) <= 4


async def test_what_is_not_warmed_up_is_tried_out_all_the_same(
    plain_server: ServerProcess, plain_repository: Path
) -> None:
    rng = np.random.default_rng(7)
    path = plain_repository / "ignores-mask-cold" / "1" / "model.onnx"
    # What batching saves is only learned from requests here, so it takes some.
    requests = [tokens(rng, 1, length, 100) for length in range(3, 15)] * 10
    got = await answers(plain_server.address, "ignores-mask-cold", requests, "pooled")
    for feeds, values in zip(requests, got, strict=True):
        assert np.abs(values - run(path, **feeds)["pooled"]).max() <= 1e-6


def test_a_mask_that_changes_outputs_is_not_used(plain_server: ServerProcess) -> None:
    assert "ignores-mask: padding changes its outputs" in plain_server.log


async def test_a_graph_that_mixes_rows_runs_requests_alone(
    plain_server: ServerProcess, plain: InferenceServerClient, plain_repository: Path
) -> None:
    rng = np.random.default_rng(3)
    requests = [{"x": rng.standard_normal((2, 3)).astype(np.float32)} for _ in range(8)]
    got = await answers(plain_server.address, "mixes-rows", requests, "y")
    for feeds, values in zip(requests, got, strict=True):
        path = plain_repository / "mixes-rows" / "1" / "model.onnx"
        assert np.array_equal(values, run(path, **feeds)["y"])
    assert set(batch_sizes(plain, "mixes-rows")) == {2}


async def test_a_row_that_masks_everything_is_not_padded(
    plain_server: ServerProcess, plain_repository: Path
) -> None:
    # With nothing to attend to, a transformer attends to all positions, padding too.
    rng = np.random.default_rng(4)
    requests = [tokens(rng, 1, length, 30_000) for length in range(3, 15)]
    requests[0]["attention_mask"][:] = 0
    output = "token_embeddings"
    got = await answers(plain_server.address, "transformer", requests, output)
    path = plain_repository / "transformer" / "1" / "model.onnx"
    for feeds, values in zip(requests, got, strict=True):
        assert np.abs(values - run(path, **feeds)[output]).max() <= 1e-5


async def test_a_poisonous_request_fails_alone(
    plain_server: ServerProcess, plain_repository: Path
) -> None:
    rng = np.random.default_rng(5)
    requests = [tokens(rng, 1, 20, 100) for _ in range(12)]
    requests[5]["input_ids"][0, 3] = 1000
    async with AsyncClient(plain_server.address) as client:
        results = await asyncio.gather(
            *(client.infer("masked", inputs(**feeds)) for feeds in requests),
            return_exceptions=True,
        )
    for number, (feeds, result) in enumerate(zip(requests, results, strict=True)):
        if number == 5:
            assert "the model failed on this request" in str(result)
            continue
        assert not isinstance(result, BaseException), result
        want = run(plain_repository / "masked" / "1" / "model.onnx", **feeds)["pooled"]
        assert np.abs(result.as_numpy("pooled") - want).max() <= 1e-6
