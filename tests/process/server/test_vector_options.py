"""Prompts, dimensions and data types: vectors as the caller needs them, over both protocols."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from tritonclient.grpc import InferenceServerClient

from tests.contract.oip.requests import inputs, strings
from tests.support.server_process import ServerProcess
from vecserve import Client, EmbedError, Image

PROMPTED, DEFAULTED = "prompted", "defaulted"
RESNET = "resnet-50"
PROMPTS = {"query": "query: ", "passage": "passage: "}
TEXTS = ["how do magnets work", "a sentence of some more words than that"]


def write_variant(repository: Path, name: str, folder: Path, **text: object) -> None:
    """Write MiniLM's bundle under another name, with prompts and Matryoshka dimensions."""
    source = repository / "all-MiniLM-L6-v2" / "1"
    target = folder / name / "1"
    target.mkdir(parents=True)
    for path in source.iterdir():
        (target / path.name).symlink_to(path)
    (target / "manifest.json").unlink()
    manifest = json.loads((source / "manifest.json").read_text())
    manifest |= {"name": name, "matryoshka_dimensions": [128, 256]}
    manifest["towers"][0]["input"] |= text
    (target / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture(scope="module")
def server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("repository")
    write_variant(repository, PROMPTED, folder, prompts=PROMPTS)
    write_variant(repository, DEFAULTED, folder, prompts=PROMPTS, default_prompt="query")
    (folder / RESNET).symlink_to(repository / RESNET)
    with ServerProcess(folder) as process:
        yield process


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Client]:
    with Client(server.address) as client:
        yield client


def normalized(values: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    unit: npt.NDArray[np.floating] = values / np.linalg.norm(values, axis=-1, keepdims=True)
    return unit


def refusal(client: Client, model: str = PROMPTED, **options: object) -> tuple[str, str]:
    with pytest.raises(EmbedError) as raised:
        client.embed(model, TEXTS[:1], **options)  # type: ignore[call-overload]
    (failure,) = raised.value.failures
    return failure.code, failure.reason


@pytest.mark.parametrize(
    ("model", "options", "before"),
    [
        (PROMPTED, {"input_type": "query"}, "query: "),
        (PROMPTED, {"input_type": "passage"}, "passage: "),
        (PROMPTED, {"prompt": "Represent this: "}, "Represent this: "),
        (DEFAULTED, {}, "query: "),
        (DEFAULTED, {"input_type": "passage"}, "passage: "),
    ],
)
def test_a_prompt_goes_before_each_text(
    client: Client, model: str, options: dict[str, str], before: str
) -> None:
    for text in TEXTS:
        got = client.embed(model, [text], **options)  # type: ignore[call-overload]
        plain = client.embed(PROMPTED, [before + text], prompt="")
        np.testing.assert_allclose(got, plain, rtol=0, atol=1e-6)


def test_an_empty_prompt_is_none(client: Client) -> None:
    plain = client.embed(PROMPTED, TEXTS)
    np.testing.assert_allclose(client.embed(DEFAULTED, TEXTS, prompt=""), plain, atol=1e-6)


def test_prompts_are_in_the_model_info(client: Client) -> None:
    prompted, defaulted = (client.model(name) for name in (PROMPTED, DEFAULTED))
    assert prompted.modalities[0].prompts == PROMPTS
    assert (prompted.modalities[0].default_prompt, prompted.matryoshka_dimensions) == (
        None,
        (128, 256),
    )
    assert defaulted.modalities[0].default_prompt == "query"


def test_a_model_that_needs_a_prompt_says_so_once(repository: Path, tmp_path: Path) -> None:
    write_variant(repository, PROMPTED, tmp_path, prompts=PROMPTS)
    with ServerProcess(tmp_path) as server, Client(server.address) as client:
        client.embed(PROMPTED, TEXTS, input_type="query")
        assert "came without input_type" not in server.log
        for _ in range(3):
            client.embed(PROMPTED, TEXTS)
        server.terminate()
        server.wait_for_log("stopped")
        assert server.log.count(f"{PROMPTED}: a text came without input_type") == 1


def test_prompts_that_cannot_be_are_refused(client: Client, images: list[bytes]) -> None:
    assert refusal(client, input_type="document") == ("INVALID_ARGUMENT", "PROMPT_NOT_OFFERED")
    with pytest.raises(EmbedError, match="takes no prompt"):
        client.embed(RESNET, [Image(images[0])], input_type="query")
    assert refusal(client, prompt="a" * 4097) == ("INVALID_ARGUMENT", "TEXT_TOO_LARGE")
    assert client.embed(PROMPTED, TEXTS, prompt="a" * 4096).shape == (2, 384)
    with pytest.raises(ValueError, match="one of them"):
        client.embed(PROMPTED, TEXTS, input_type="query", prompt="a")


@pytest.mark.parametrize("dimensions", [128, 256, 384])
def test_dimensions_cut_and_normalise_again(client: Client, dimensions: int) -> None:
    full = client.embed(PROMPTED, TEXTS)
    cut = client.embed(PROMPTED, TEXTS, dimensions=dimensions)
    np.testing.assert_allclose(cut, normalized(full[:, :dimensions]), rtol=0, atol=1e-6)
    raw = client.embed(PROMPTED, TEXTS, normalize=False)
    as_it_is = client.embed(PROMPTED, TEXTS, normalize=False, dimensions=dimensions)
    np.testing.assert_allclose(as_it_is, raw[:, :dimensions], rtol=0, atol=1e-5)


def test_dimensions_it_was_not_trained_for_are_refused_unless_forced(client: Client) -> None:
    refused = ("INVALID_ARGUMENT", "DIMENSIONS_NOT_OFFERED")
    assert refusal(client, dimensions=100) == refused
    assert client.embed(PROMPTED, TEXTS, dimensions=100, force_dimensions=True).shape == (2, 100)
    assert refusal(client, dimensions=385, force_dimensions=True) == refused


def test_integers_are_the_vector_by_their_scale(client: Client) -> None:
    full = client.embed(PROMPTED, TEXTS)
    for dtype, zero in (("int8", 0), ("uint8", 128)):
        results = client.embed_stream(PROMPTED, TEXTS, dtype=dtype)  # type: ignore[call-overload]
        for result, row in zip(results, full, strict=True):
            (vector,) = result.vectors
            assert vector.values.dtype == np.dtype(dtype)
            restored = (vector.values.astype(np.float32) - zero) * vector.scale
            assert np.abs(restored - row).max() <= vector.scale / 2 + 1e-7
    assert client.embed(PROMPTED, TEXTS, dtype="int8").dtype == np.int8


def test_binary_packs_the_signs(client: Client) -> None:
    full = client.embed(PROMPTED, TEXTS)
    bits = client.embed(PROMPTED, TEXTS, dtype="binary")
    assert np.array_equal(bits, np.packbits(full > 0, axis=1))
    assert client.embed(PROMPTED, TEXTS, dtype="binary", dimensions=128).shape == (2, 16)
    odd = refusal(client, dtype="binary", dimensions=100, force_dimensions=True)
    assert odd == ("INVALID_ARGUMENT", "BINARY_NOT_OFFERED")
    assert client.embed(PROMPTED, [], dtype="binary").shape == (0, 48)


def test_the_open_inference_protocol_takes_them_as_parameters(
    server: ServerProcess, client: Client
) -> None:
    typed = client.embed(PROMPTED, TEXTS, input_type="passage", dimensions=128)
    with InferenceServerClient(server.address) as triton:
        tensors = inputs(text=strings(*(text.encode() for text in TEXTS)))
        parameters = {"input_type": "passage", "dimensions": 128}
        raw = triton.infer(PROMPTED, tensors, parameters=parameters).as_numpy("embedding")
    np.testing.assert_allclose(raw, typed, rtol=0, atol=1e-6)


def test_the_command_takes_them(server: ServerProcess, client: Client, tmp_path: Path) -> None:
    output = tmp_path / "vectors.npy"
    command = [sys.executable, "-m", "vecserve", "embed", "--server", server.address]
    options = ["--input-type", "query", "--dimensions", "128", "--output", str(output)]
    subprocess.run([*command, "-m", PROMPTED, "-t", TEXTS[0], *options], check=True)
    expected = client.embed(PROMPTED, TEXTS[:1], input_type="query", dimensions=128)
    np.testing.assert_allclose(np.load(output), expected, rtol=0, atol=1e-6)


def test_index_takes_the_prompt_of_passages_and_search_that_of_queries(
    server: ServerProcess, client: Client, tmp_path: Path
) -> None:
    def vecserve(command: str, *arguments: str, stdin: str = "", code: int = 0) -> str:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "vecserve", command, *arguments),
                *("--into", "vectors.parquet", "-c", "texts", "--server", server.address),
            ],
            input=stdin,
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    vecserve("index", "-", "-m", PROMPTED, "--dimensions", "256", stdin=TEXTS[1])
    [hit] = vecserve("search", TEXTS[0], "--json").splitlines()
    [query] = client.embed(PROMPTED, TEXTS[:1], input_type="query", dimensions=256)
    [passage] = client.embed(PROMPTED, TEXTS[1:], input_type="passage", dimensions=256)
    assert json.loads(hit)["score"] == pytest.approx(float(query @ passage), abs=1e-4)
    [plain] = client.embed(PROMPTED, TEXTS[1:], prompt="", dimensions=256)
    assert float(query @ plain) != pytest.approx(float(query @ passage), abs=1e-3)
    refused = vecserve(
        "index", "-", "-m", PROMPTED, "--dimensions", "256", "--input-type", "query", code=1
    )
    assert "(256 dimensions, cosine, prompt 'passage: '), not of" in refused
