"""Each family's bundle, made from a tiny checkpoint, against transformers itself."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer
from transformers import (
    AutoTokenizer,
    BertModel,
    CLIPModel,
    PerceiverForMultimodalAutoencoding,
    ResNetModel,
    WhisperFeatureExtractor,
    WhisperModel,
)

from tests.export.conftest import Command, write_modules
from vecserve_export import samples
from vecserve_export.checkpoint import Checkpoint
from vecserve_export.families import registry
from vecserve_export.graph import optimize
from vecserve_export.plan import Case, Plan, TowerPlan
from vecserve_server.repository.manifest import (
    MANIFEST_FILE,
    AudioInput,
    ImageInput,
    Manifest,
    Output,
    Pooling,
    TextInput,
    Tower,
    VideoInput,
    sha256_of,
)

Outputs = dict[str, np.ndarray[Any, np.dtype[np.float32]]]


def manifest_of(bundle: Path) -> Manifest:
    return Manifest.model_validate_json((bundle / MANIFEST_FILE).read_text())


def run_graph(graph: Path, feeds: dict[str, Any]) -> Outputs:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.fixture
def checkpoint(request: pytest.FixtureRequest, checkpoints: Path, tmp_path: Path) -> Path:
    """A copy of a tiny checkpoint, to be changed at will."""
    return Path(shutil.copytree(checkpoints / request.param, tmp_path / request.param))


@pytest.mark.parametrize(
    ("name", "dimensions", "graphs"),
    [
        ("tiny-bert", 32, ["text.onnx"]),
        ("tiny-clip", 16, ["text.onnx", "image.onnx"]),
        ("tiny-perceiver", 16, ["video.onnx"]),
        ("tiny-resnet", 24, ["image.onnx"]),
        ("tiny-whisper", 64, ["audio.onnx"]),
    ],
)
def test_manifest_describes_the_bundle(
    name: str,
    dimensions: int,
    graphs: list[str],
    checkpoints: Path,
    command: Command,
    repository: Path,
) -> None:
    result = command(checkpoints / name)
    assert result.exit_code == 0, result.output
    folder = repository / name / "1"
    manifest = manifest_of(folder)
    assert (manifest.name, manifest.version, manifest.dimensions) == (name, "1", dimensions)
    assert [tower.graph for tower in manifest.towers] == graphs
    assert manifest.trained
    assert manifest.source.kind == "path"
    assert manifest.source.revision == sha256_of(checkpoints / name / "model.safetensors")
    assert manifest.parity.max_abs_error_allowed == 1e-4
    assert manifest.parity.max_abs_error <= 1e-4
    assert manifest.parity.min_cosine_allowed == 0.99999
    assert manifest.parity.min_cosine >= 0.99999
    assert len(manifest.parity.cases) >= 2 * len(graphs)

    assert {path.name for path in folder.iterdir()} == {MANIFEST_FILE, *manifest.files}
    assert manifest.files == {file: sha256_of(folder / file) for file in manifest.files}
    for graph in graphs:
        model = onnx.load(folder / graph)
        assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 17)]
        assert {node.domain for node in model.graph.node} == {""}
    closing = result.stdout.strip().splitlines()
    assert len(closing) == 1
    assert str(folder) in closing[0]
    assert "trained" in closing[0]
    assert "UNTRAINED" not in closing[0]


def test_same_checkpoint_gives_the_same_bytes(
    checkpoints: Path, command: Command, repository: Path
) -> None:
    first, second = (
        (command(checkpoints / "tiny-bert", "--force"), manifest_of(repository / "tiny-bert" / "1"))
        for _ in range(2)
    )
    assert first[0].exit_code == second[0].exit_code == 0
    assert first[1] == second[1]


def test_bert_equals_transformers(checkpoints: Path, command: Command, repository: Path) -> None:
    assert command(checkpoints / "tiny-bert").exit_code == 0
    bundle = repository / "tiny-bert" / "1"
    tower = manifest_of(bundle).towers[0]
    assert tower.input == TextInput(tokenizer="tokenizer.json", max_tokens=48, pad_id=0)
    assert [(o.name, o.pooling, o.normalized) for o in tower.outputs] == [
        ("sentence_embedding", Pooling.MEAN, True),
        ("pooled", Pooling.MEAN, False),
        ("token_embeddings", Pooling.NONE, False),
    ]
    # Shapes that neither the trace nor the verification saw.
    texts = ["the cat is", "a cat, the other cat and 7 more", "", "is it?", "the"]
    theirs = AutoTokenizer.from_pretrained(checkpoints / "tiny-bert")(
        texts, padding=True, return_tensors="np"
    )
    outputs = run_graph(
        bundle / "text.onnx",
        {name: theirs[name].astype(np.int64) for name in ("input_ids", "attention_mask")},
    )
    model = BertModel.from_pretrained(checkpoints / "tiny-bert").eval()
    for row, text in enumerate(texts):
        alone = AutoTokenizer.from_pretrained(checkpoints / "tiny-bert")(text, return_tensors="pt")
        with torch.inference_mode():
            tokens = model(**alone).last_hidden_state[0].numpy()
        mean = tokens.mean(0)
        np.testing.assert_allclose(
            outputs["token_embeddings"][row, : len(tokens)], tokens, atol=2e-5
        )
        np.testing.assert_allclose(outputs["pooled"][row], mean, atol=2e-5)
        np.testing.assert_allclose(
            outputs["sentence_embedding"][row], mean / np.linalg.norm(mean), atol=2e-5
        )


@pytest.mark.parametrize("checkpoint", ["tiny-bert"], indirect=True)
def test_bert_cls_pooling_without_normalize(
    checkpoint: Path, command: Command, repository: Path
) -> None:
    write_modules(checkpoint, "Transformer", "Pooling")
    (checkpoint / "1_Pooling" / "config.json").write_text(
        '{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}'
    )
    result = command(checkpoint)
    assert result.exit_code == 0, result.output
    bundle = repository / "tiny-bert" / "1"
    outputs = manifest_of(bundle).towers[0].outputs
    assert [(o.name, o.pooling, o.normalized) for o in outputs[:2]] == [
        ("pooled", Pooling.CLS, False),
        ("sentence_embedding", Pooling.CLS, True),
    ]
    vectors = run_graph(
        bundle / "text.onnx",
        {"input_ids": np.array([[2, 5, 3]]), "attention_mask": np.ones((1, 3), np.int64)},
    )
    np.testing.assert_array_equal(vectors["pooled"], vectors["token_embeddings"][:, 0])


def test_tokenizer_neither_truncates_nor_pads(
    checkpoints: Path, command: Command, repository: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(checkpoints / "tiny-bert", tmp_path / "padded"))
    tokenizer = Tokenizer.from_file(str(copy / "tokenizer.json"))
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=16)
    tokenizer.save(str(copy / "tokenizer.json"))
    assert command(copy).exit_code == 0
    exported = Tokenizer.from_file(str(repository / "padded" / "1" / "tokenizer.json"))
    assert exported.truncation is None
    assert exported.padding is None
    assert exported.encode("the cat is the cat").ids == [2, 5, 7, 6, 5, 7, 3]


@pytest.mark.parametrize("checkpoint", ["tiny-bert"], indirect=True)
def test_tokenizer_is_made_from_a_vocabulary(
    checkpoint: Path, command: Command, repository: Path
) -> None:
    vocabulary = Tokenizer.from_file(str(checkpoint / "tokenizer.json")).get_vocab()
    (checkpoint / "vocab.txt").write_text(
        "\n".join(sorted(vocabulary, key=vocabulary.__getitem__)) + "\n"
    )
    (checkpoint / "tokenizer.json").unlink()
    (checkpoint / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    result = command(checkpoint)
    assert result.exit_code == 0, result.output
    exported = Tokenizer.from_file(str(repository / "tiny-bert" / "1" / "tokenizer.json"))
    assert exported.encode("The CAT is").ids == [2, 5, 7, 6, 3]


def test_clip_equals_transformers(checkpoints: Path, command: Command, repository: Path) -> None:
    assert command(checkpoints / "tiny-clip").exit_code == 0
    bundle = repository / "tiny-clip" / "1"
    text, image = manifest_of(bundle).towers
    assert isinstance(text.input, TextInput)
    assert text.input.max_tokens == 24
    assert image.input == ImageInput(
        resize_shortest_edge=36,
        resample="bicubic",
        crop_height=32,
        crop_width=32,
        transparency="white",
    )
    assert [(o.name, o.normalized) for o in text.outputs] == [
        ("unit_projection", True),
        ("projection", False),
    ]
    assert [o.pooling for o in (*text.outputs, *image.outputs)] == [
        *[Pooling.LAST] * 2,
        *[Pooling.CLS] * 2,
    ]

    model = CLIPModel.from_pretrained(checkpoints / "tiny-clip").eval()
    tokenizer = AutoTokenizer.from_pretrained(checkpoints / "tiny-clip")
    texts = ["the cat", "a photo of the other cat", "", "cat", "THE  Cat"]
    feeds = tokenizer(texts, padding=True, return_tensors="np")
    outputs = run_graph(bundle / "text.onnx", dict(feeds))
    for row, one in enumerate(texts):
        with torch.inference_mode():
            raw = model.get_text_features(**tokenizer(one, return_tensors="pt")).pooler_output[0]
        np.testing.assert_allclose(outputs["projection"][row], raw, atol=2e-5)
        np.testing.assert_allclose(
            outputs["unit_projection"][row], raw / torch.linalg.norm(raw), atol=2e-5
        )

    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    pixels[0], pixels[1] = 0, 255
    values = (pixels / 255 - np.array([0.5, 0.4, 0.3])) / np.array([0.2, 0.25, 0.3])
    with torch.inference_mode():
        raw = model.get_image_features(
            torch.from_numpy(values.transpose(0, 3, 1, 2)).float()
        ).pooler_output
    outputs = run_graph(bundle / "image.onnx", {"pixels": pixels})
    np.testing.assert_allclose(outputs["projection"], raw, atol=2e-5)
    np.testing.assert_allclose(np.linalg.norm(outputs["unit_projection"], axis=1), 1, atol=1e-6)


def test_resnet_equals_transformers(checkpoints: Path, command: Command, repository: Path) -> None:
    assert command(checkpoints / "tiny-resnet").exit_code == 0
    bundle = repository / "tiny-resnet" / "1"
    (tower,) = manifest_of(bundle).towers
    # 64 / 0.875 = 73.1
    assert tower.input == ImageInput(
        resize_shortest_edge=73, resample="bilinear", crop_height=64, crop_width=64
    )
    pixels = samples.photos(64, 64)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    values = ((pixels / 255 - mean) / std).transpose(0, 3, 1, 2)
    model = ResNetModel.from_pretrained(checkpoints / "tiny-resnet").eval()
    with torch.inference_mode():
        expected = model(torch.from_numpy(values).float()).pooler_output.flatten(1).numpy()
    outputs = run_graph(bundle / "image.onnx", {"pixels": pixels})
    np.testing.assert_allclose(outputs["pooled"], expected, atol=1e-5 * np.abs(expected).max())


def test_whisper_equals_transformers(checkpoints: Path, command: Command, repository: Path) -> None:
    assert command(checkpoints / "tiny-whisper").exit_code == 0
    bundle = repository / "tiny-whisper" / "1"
    (tower,) = manifest_of(bundle).towers
    assert tower.input == AudioInput(
        sample_rate_hz=16_000, window_samples=480_000, samples_per_position=320
    )
    assert [(o.name, o.pooling) for o in tower.outputs] == [
        ("pooled", Pooling.MEAN),
        ("last_hidden_state", Pooling.NONE),
    ]
    # One sample, two positions exactly, one sample more, and a whole clip.
    clip = samples.speech()[0][20_000:]
    clips = [clip[:1], clip[:640], clip[:641], samples.speech()[1]]
    waveform = np.zeros((4, 480_000), np.float32)
    for row, clip in zip(waveform, clips, strict=True):
        row[: len(clip)] = clip
    outputs = run_graph(
        bundle / "audio.onnx",
        {"waveform": waveform, "lengths": np.array([len(clip) for clip in clips])},
    )
    features = WhisperFeatureExtractor.from_pretrained(checkpoints / "tiny-whisper")(
        clips, sampling_rate=16_000, return_tensors="pt"
    ).input_features
    encoder = WhisperModel.from_pretrained(checkpoints / "tiny-whisper").encoder.eval()
    with torch.inference_mode():
        expected = encoder(features).last_hidden_state.numpy()
    scale = np.abs(expected).max()
    np.testing.assert_allclose(outputs["last_hidden_state"], expected, atol=1e-4 * scale)
    for number, positions in enumerate((1, 2, 3, -(-len(clips[3]) // 320))):
        np.testing.assert_allclose(
            outputs["pooled"][number], expected[number, :positions].mean(0), atol=1e-4 * scale
        )


def test_perceiver_equals_transformers(
    checkpoints: Path, command: Command, repository: Path
) -> None:
    assert command(checkpoints / "tiny-perceiver").exit_code == 0
    bundle = repository / "tiny-perceiver" / "1"
    (tower,) = manifest_of(bundle).towers
    assert tower.input == VideoInput(
        frames=2,
        frame_rate_hz=25,
        height=224,
        width=224,
        sample_rate_hz=48_000,
        audio_samples=640,
    )
    random = np.random.default_rng(0)
    frames = random.integers(0, 256, (3, 2, 224, 224, 3), dtype=np.uint8)
    audio = random.uniform(-1, 1, (3, 640)).astype(np.float32)
    outputs = run_graph(bundle / "video.onnx", {"frames": frames, "audio": audio})
    folder = checkpoints / "tiny-perceiver"
    model = PerceiverForMultimodalAutoencoding.from_pretrained(folder).eval()
    with torch.inference_mode():
        # With its decoder and its draw of masks, as a user calls it.
        expected = model.perceiver(
            inputs={
                "image": torch.from_numpy((frames / 255.0).transpose(0, 1, 4, 2, 3)).float(),
                "audio": torch.from_numpy(audio)[:, :, None],
                "label": torch.zeros(3, 700),
            },
            subsampled_output_points={
                "image": torch.arange(1),
                "audio": torch.arange(1),
                "label": None,
            },
        ).last_hidden_state.numpy()
    assert expected.shape == (3, 8, 16)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(outputs["latents"], expected, atol=1e-4 * scale)
    np.testing.assert_allclose(outputs["pooled"], expected.mean(1), atol=1e-4 * scale)


@pytest.mark.parametrize(
    ("checkpoint", "file", "changes", "said"),
    [
        ("tiny-whisper", "preprocessor_config.json", {"dither": 0.1}, "dither"),
        ("tiny-bert", "config.json", {"model_type": "t5"}, "model_type t5"),
        (
            "tiny-perceiver",
            "config.json",
            {"architectures": ["PerceiverForMaskedLM"]},
            "PerceiverForMaskedLM",
        ),
        ("tiny-perceiver", "config.json", {"image_size": 64}, "image_size 64"),
    ],
    indirect=["checkpoint"],
)
def test_unsupported_setting_is_refused(
    checkpoint: Path,
    file: str,
    changes: dict[str, object],
    said: str,
    command: Command,
    repository: Path,
) -> None:
    edit_json(checkpoint / file, **changes)
    result = command(checkpoint)
    assert result.exit_code == 1
    assert said in result.stderr
    assert not repository.exists()


@pytest.mark.parametrize("checkpoint", ["tiny-bert"], indirect=True)
def test_missing_weights_are_not_made_up(
    checkpoint: Path, command: Command, repository: Path
) -> None:
    edit_json(checkpoint / "config.json", num_hidden_layers=3)
    result = command(checkpoint)
    assert result.exit_code == 1
    assert "lacks 16 weights of BertModel" in result.stderr
    assert not repository.exists()


@pytest.mark.parametrize("opset", [18, 20])
def test_opset_is_chosen(opset: int, checkpoints: Path, command: Command, repository: Path) -> None:
    assert command(checkpoints / "tiny-bert", "--opset", str(opset)).exit_code == 0
    folder = repository / "tiny-bert" / "1"
    assert manifest_of(folder).opset == opset
    assert onnx.load(folder / "text.onnx").opset_import[0].version == opset


def test_weights_too_large_for_a_graph_have_a_file_of_their_own(
    checkpoints: Path, command: Command, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimize, "MAX_GRAPH_BYTES", 0)
    result = command(checkpoints / "tiny-resnet")
    assert result.exit_code == 0, result.output
    folder = repository / "tiny-resnet" / "1"
    assert set(manifest_of(folder).files) == {"image.onnx", "image.onnx.data"}
    outputs = run_graph(folder / "image.onnx", {"pixels": samples.photos(64, 64)})
    assert outputs["pooled"].shape == (3, 24)


class MeanColour(torch.nn.Module):
    """An image model of its own kind: the mean of each colour, times three weights."""

    def __init__(self, weights: np.ndarray[Any, np.dtype[np.float32]]) -> None:
        super().__init__()
        self.weights = torch.nn.Parameter(torch.from_numpy(weights))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.float().mean((1, 2)) * self.weights


def plan_mean_colour(checkpoint: Checkpoint) -> Plan:
    weights = load_file(checkpoint.folder / "model.safetensors")["weights"]
    pixels = samples.photos(8, 8)
    expected = (pixels.astype(np.float32).mean((1, 2)) * weights,)
    tower = Tower(
        graph="image.onnx",
        input=ImageInput(resize_shortest_edge=8, resample="bilinear", crop_height=8, crop_width=8),
        outputs=(Output(name="colour", pooling=Pooling.MEAN, normalized=False),),
        max_batch_rows=4,
        max_batch_positions=4,
    )
    axes = {"pixels": {0: "batch"}, "colour": {0: "batch"}}
    case = Case("3 photos", {"pixels": pixels}, expected)
    return Plan("Mean colour", 3, (TowerPlan(tower, MeanColour(weights), axes, (case,)),))


def test_family_is_one_module_and_one_entry(
    command: Command, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry.FAMILIES, "mean-colour", SimpleNamespace(plan=plan_mean_colour))
    checkpoint = tmp_path / "colour"
    checkpoint.mkdir()
    (checkpoint / "config.json").write_text('{"model_type": "mean-colour"}')
    weights = np.array([1.0, -2.0, 0.5], np.float32)
    save_file({"weights": weights}, checkpoint / "model.safetensors")
    result = command(checkpoint)
    assert result.exit_code == 0, result.output
    bundle = repository / "colour" / "1"
    assert manifest_of(bundle).dimensions == 3
    pixels = np.full((2, 8, 8, 3), 100, np.uint8)
    outputs = run_graph(bundle / "image.onnx", {"pixels": pixels})
    np.testing.assert_allclose(outputs["colour"], [[100.0, -200.0, 50.0]] * 2)
