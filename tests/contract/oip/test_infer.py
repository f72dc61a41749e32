"""Rules of ModelInfer: tensors to a bundle's graphs, texts and files to a bundle."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient
from tritonclient.grpc.aio import InferenceServerClient as AsyncClient

from tests.contract.oip.requests import (
    CLIP,
    MINILM,
    RESNET,
    WHISPER,
    failure,
    inputs,
    outputs,
    run,
    strings,
    tokens,
)

GRAPH = f"{MINILM}.text"
Feeds = dict[str, np.ndarray]


@pytest.mark.parametrize(("rows", "length"), [(1, 7), (3, 18), (8, 64)])
def test_a_text_graph_gives_what_onnx_runtime_gives(
    client: InferenceServerClient, repository: Path, rows: int, length: int
) -> None:
    feeds = tokens(np.random.default_rng(rows), rows, length, 30_000)
    result = client.infer(GRAPH, inputs(**feeds))
    expected = run(repository / MINILM / "1" / "text.onnx", **feeds)
    assert [output.name for output in result.get_response().outputs] == list(expected)
    for name, values in expected.items():
        assert np.abs(result.as_numpy(name) - values).max() <= 1e-5


def test_an_image_graph_gives_what_onnx_runtime_gives(
    client: InferenceServerClient, repository: Path
) -> None:
    rng = np.random.default_rng(0)
    pixels = {"pixels": rng.integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)}
    got = client.infer(f"{RESNET}.image", inputs(**pixels)).as_numpy("pooled")
    want = run(repository / RESNET / "1" / "image.onnx", **pixels)["pooled"]
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)


def test_an_audio_graph_gives_what_onnx_runtime_gives(
    client: InferenceServerClient, repository: Path
) -> None:
    sound = {
        "waveform": np.random.default_rng(0).standard_normal((1, 480_000)).astype(np.float32),
        "lengths": np.array([480_000]),
    }
    wanted = outputs("last_hidden_state")
    got = client.infer(f"{WHISPER}.audio", inputs(**sound), outputs=wanted)
    want = run(repository / WHISPER / "1" / "audio.onnx", **sound)["last_hidden_state"]
    np.testing.assert_allclose(got.as_numpy("last_hidden_state"), want, rtol=1e-3, atol=1e-3)


def test_a_response_names_its_request_model_and_version(client: InferenceServerClient) -> None:
    feeds = tokens(np.random.default_rng(0), 1, 5, 30_000)
    response = client.infer(GRAPH, inputs(**feeds), request_id="the id").get_response()
    assert (response.id, response.model_name, response.model_version) == ("the id", GRAPH, "1")


def test_only_the_outputs_asked_for_come_in_the_order_asked_for(
    client: InferenceServerClient,
) -> None:
    feeds = tokens(np.random.default_rng(0), 2, 5, 30_000)
    wanted = outputs("token_embeddings", "pooled")
    response = client.infer(GRAPH, inputs(**feeds), outputs=wanted).get_response()
    assert [output.name for output in response.outputs] == ["token_embeddings", "pooled"]
    assert [list(output.shape) for output in response.outputs] == [[2, 5, 384], [2, 384]]


def test_texts_get_a_vector_each(client: InferenceServerClient) -> None:
    text = strings(b"a sentence", "zwölf Wörter".encode())
    vectors = client.infer(MINILM, inputs(text=text)).as_numpy("embedding")
    assert vectors.shape == (2, 384)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)


def test_each_row_is_the_vector_of_its_own_text(client: InferenceServerClient) -> None:
    texts = [b"a dog runs", b"stocks fell today", b"my password is lost"]
    together = client.infer(MINILM, inputs(text=strings(*texts))).as_numpy("embedding")
    for text, row in zip(texts, together, strict=True):
        alone = client.infer(MINILM, inputs(text=strings(text))).as_numpy("embedding")
        assert np.abs(alone[0] - row).max() <= 1e-5


def test_texts_may_come_without_the_second_axis(client: InferenceServerClient) -> None:
    flat = inputs(text=strings(b"a sentence", shape=(1,)))
    column = inputs(text=strings(b"a sentence"))
    one, other = (client.infer(MINILM, text).as_numpy("embedding") for text in (flat, column))
    assert np.abs(one - other).max() <= 1e-5


def test_the_parameter_normalize_is_that_of_vecserve(client: InferenceServerClient) -> None:
    text = inputs(text=strings(b"a sentence"))
    raw = client.infer(MINILM, text, parameters={"normalize": False}).as_numpy("embedding")
    assert np.linalg.norm(raw) > 1.5


def test_the_parameter_pooling_is_that_of_vecserve(client: InferenceServerClient) -> None:
    text = inputs(text=strings(b"one two"))
    each = client.infer(MINILM, text, parameters={"pooling": "none"}).as_numpy("embedding")
    assert each.shape == (1, 4, 384)


def test_image_files_get_a_vector_each(client: InferenceServerClient, images: list[bytes]) -> None:
    photos = inputs(image=strings(*images[:2]))
    assert client.infer(RESNET, photos).as_numpy("embedding").shape == (2, 2048)


def test_audio_files_of_any_length_get_a_vector_each(
    client: InferenceServerClient, speech: list[bytes], long_speech: bytes
) -> None:
    sound = inputs(audio=strings(speech[0], long_speech))
    assert client.infer(WHISPER, sound).as_numpy("embedding").shape == (2, 512)


def test_a_bundle_of_two_modalities_takes_either(
    client: InferenceServerClient, images: list[bytes]
) -> None:
    for feed in (inputs(image=strings(images[0])), inputs(text=strings(b"a photo"))):
        assert client.infer(CLIP, feed).as_numpy("embedding").shape == (1, 512)


def test_the_first_bad_row_fails_its_request(
    client: InferenceServerClient, images: list[bytes]
) -> None:
    bad = strings(images[0], b"no image", images[1], b"no image either")
    code, message = failure(client.infer, RESNET, inputs(image=bad))
    assert code == "INVALID_ARGUMENT"
    assert message.startswith("item 1: ")


async def answers(address: str, model: str, requests: list[Feeds], output: str) -> list[np.ndarray]:
    """Send all at once; their answers in their order."""
    async with AsyncClient(address) as client:
        results = await asyncio.gather(
            *(client.infer(model, inputs(**feeds)) for feeds in requests)
        )
    return [result.as_numpy(output) for result in results]


def batches(client: InferenceServerClient) -> dict[int, int]:
    """How many batches of each size the graph has run."""
    (stats,) = client.get_inference_statistics(GRAPH).model_stats
    return {entry.batch_size: entry.compute_infer.count for entry in stats.batch_stats}


async def test_tensors_of_different_lengths_share_batches_and_are_right(
    server_address: str, client: InferenceServerClient, repository: Path
) -> None:
    rng = np.random.default_rng(1)
    requests = [tokens(rng, 1 + n % 3, 4 + n, 30_000) for n in range(48)]
    before = batches(client)
    got = await answers(server_address, GRAPH, requests, "sentence_embedding")
    path = repository / MINILM / "1" / "text.onnx"
    for feeds, values in zip(requests, got, strict=True):
        assert np.abs(values - run(path, **feeds)["sentence_embedding"]).max() <= 1e-5
    # No two requests have one length, and none has more than three rows.
    after = batches(client)
    assert any(size > 3 and count > before.get(size, 0) for size, count in after.items())


async def test_a_text_does_not_depend_on_its_batch(server_address: str) -> None:
    sentences = [b"word " * (1 + n % 20) for n in range(60)]
    requests = [{"text": strings(sentence)} for sentence in sentences]
    first = await answers(server_address, MINILM, requests, "embedding")
    again = await answers(server_address, MINILM, requests[::-1], "embedding")
    assert np.abs(np.subtract(first, again[::-1])).max() <= 1e-5


def refusal(client: InferenceServerClient, model: str, **feeds: np.ndarray) -> str:
    """The code of a request that must be refused."""
    return failure(client.infer, model, inputs(**feeds))[0]


def test_an_unknown_model_is_not_found(client: InferenceServerClient) -> None:
    assert refusal(client, "gpt", text=strings(b"a")) == "NOT_FOUND"


def test_an_unknown_version_is_not_found(client: InferenceServerClient) -> None:
    text = inputs(text=strings(b"a"))
    assert failure(client.infer, MINILM, text, model_version="7")[0] == "NOT_FOUND"


def test_an_unknown_input_is_refused(client: InferenceServerClient) -> None:
    assert refusal(client, MINILM, image=strings(b"x")) == "INVALID_ARGUMENT"


def test_a_missing_input_is_refused(client: InferenceServerClient) -> None:
    ids = np.ones((1, 4), np.int64)
    assert refusal(client, GRAPH, input_ids=ids) == "INVALID_ARGUMENT"


def test_two_modalities_in_one_request_are_refused(client: InferenceServerClient) -> None:
    both = {"text": strings(b"a"), "image": strings(b"a")}
    assert refusal(client, CLIP, **both) == "INVALID_ARGUMENT"


def test_a_tensor_of_another_type_is_refused(client: InferenceServerClient) -> None:
    assert refusal(client, MINILM, text=np.ones((1, 4), np.int64)) == "INVALID_ARGUMENT"


def test_a_tensor_of_another_shape_is_refused(client: InferenceServerClient) -> None:
    row = strings(b"a", b"b", shape=(1, 2))
    assert refusal(client, MINILM, text=row) == "INVALID_ARGUMENT"


def test_a_text_that_is_not_utf8_is_refused(client: InferenceServerClient) -> None:
    assert refusal(client, MINILM, text=strings(b"\xff")) == "INVALID_ARGUMENT"


@pytest.mark.parametrize(("rows", "length"), [(1, 257), (129, 1), (0, 4)])
def test_more_or_less_than_a_graph_takes_is_refused(
    client: InferenceServerClient, rows: int, length: int
) -> None:
    ids = np.ones((rows, length), np.int64)
    assert refusal(client, GRAPH, input_ids=ids, attention_mask=ids) == "INVALID_ARGUMENT"


def test_an_unknown_output_is_refused(client: InferenceServerClient) -> None:
    wanted = outputs("logits")
    code, _ = failure(client.infer, MINILM, inputs(text=strings(b"a")), outputs=wanted)
    assert code == "INVALID_ARGUMENT"
