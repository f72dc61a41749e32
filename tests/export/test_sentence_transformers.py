"""Bundles of sentence-transformers folders against SentenceTransformer.encode itself."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import (
    Dense,
    Dropout,
    LayerNorm,
    Normalize,
    Pooling,
)
from tokenizers import Tokenizer

from tests.export.conftest import Command, write_modules
from tests.export.test_families import edit_json, manifest_of
from tests.support.sentence_transformers import WIDTH, save
from vecserve_server.repository.manifest import TextInput, Tower

Vectors = npt.NDArray[np.float32]

# Short, empty, odd and far too long.
TEXTS = [
    "the cat is",
    "A Cat, the other cat and 7 more?",
    "",
    "Is it?",
    "naïve 猫 🙂",
    "the cat is where it was: " * 40,
    "the cats ask a query",
]


def text_tower(bundle: Path) -> tuple[Tower, TextInput]:
    (tower,) = manifest_of(bundle).towers
    assert isinstance(tower.input, TextInput)
    return tower, tower.input


def run_bundle(bundle: Path, texts: list[str], output: str | None = None) -> Vectors:
    """Embed texts in one padded batch, as the server does."""
    tower, text = text_tower(bundle)
    tokenizer = Tokenizer.from_file(str(bundle / text.tokenizer))
    tokenizer.enable_truncation(text.max_tokens)
    tokenizer.enable_padding(pad_id=text.pad_id)
    encodings = tokenizer.encode_batch(texts)
    session = onnxruntime.InferenceSession(bundle / tower.graph, providers=["CPUExecutionProvider"])
    vectors: Vectors = session.run(
        [output or tower.outputs[0].name],
        {
            "input_ids": np.array([encoding.ids for encoding in encodings]),
            "attention_mask": np.array([encoding.attention_mask for encoding in encodings]),
        },
    )[0]
    return vectors


def assert_same(vectors: Vectors, expected: Any) -> None:
    # Equality means something only where texts differ.
    units = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.sort(units @ units.T, axis=1)[:, -2].max() < 0.999
    np.testing.assert_allclose(vectors, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "tiny"


@pytest.fixture
def bundle(repository: Path) -> Path:
    return repository / "tiny" / "1"


def test_an_e5(folder: Path, bundle: Path, command: Command) -> None:
    prompts = {"query": "query: ", "passage": "passage: "}
    model = save(folder, "bert", Pooling(WIDTH), Normalize(), prompts=prompts)
    result = command(folder)
    assert result.exit_code == 0, result.output
    text = text_tower(bundle)[1]
    # sentence-transformers adds this one by itself.
    assert text.prompts == prompts | {"document": ""}
    assert text.default_prompt is None
    for name, prompt in prompts.items():
        prompted = [prompt + one for one in TEXTS]
        assert_same(run_bundle(bundle, prompted), model.encode(TEXTS, prompt_name=name))
    assert_same(run_bundle(bundle, TEXTS), model.encode(TEXTS))


def test_a_bge(folder: Path, bundle: Path, command: Command) -> None:
    prompts = {"query": "Represent this sentence: ", "document": "", "clustering": "Group: "}
    model = save(
        folder,
        "bert",
        Pooling(WIDTH, "cls"),
        Normalize(),
        prompts=prompts,
        default_prompt_name="clustering",
    )
    result = command(folder)
    assert result.exit_code == 0, result.output
    text = text_tower(bundle)[1]
    assert (text.prompts, text.default_prompt) == (prompts, "clustering")
    assert_same(run_bundle(bundle, ["Group: " + one for one in TEXTS]), model.encode(TEXTS))


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_a_modernbert(pooling: str, folder: Path, bundle: Path, command: Command) -> None:
    # One global layer, then one that sees 4 tokens to each side.
    model = save(folder, "modernbert", Pooling(WIDTH, pooling), Normalize(), max_tokens=120)
    result = command(folder)
    assert result.exit_code == 0, result.output
    assert text_tower(bundle)[1].max_tokens == 120
    assert_same(run_bundle(bundle, TEXTS), model.encode(TEXTS))


@pytest.mark.parametrize("architecture", ["mpnet", "roberta", "xlm-roberta"])
def test_positions_after_padding(
    architecture: str, folder: Path, bundle: Path, command: Command
) -> None:
    # MPNet's relative positions share buckets from 128 tokens on.
    model = save(folder, architecture, Pooling(WIDTH), Normalize(), max_tokens=200)
    result = command(folder)
    assert result.exit_code == 0, result.output
    assert text_tower(bundle)[1].pad_id == 1
    assert_same(run_bundle(bundle, TEXTS), model.encode(TEXTS))
    # A text may hold the padding's own token.
    padded = [*TEXTS, "the cat <pad> is", "<pad>"]
    np.testing.assert_allclose(run_bundle(bundle, padded), model.encode(padded), atol=1e-5)


def test_length_ends_with_the_positions(folder: Path, bundle: Path, command: Command) -> None:
    # 256 positions, the first two of which no token has.
    save(folder, "roberta", Pooling(WIDTH), max_tokens=256)
    result = command(folder)
    assert result.exit_code == 0, result.output
    assert text_tower(bundle)[1].max_tokens == 254


def test_a_distiluse(folder: Path, bundle: Path, command: Command) -> None:
    torch.manual_seed(5)
    model = save(folder, "distilbert", Pooling(WIDTH), Dense(WIDTH, 24))
    result = command(folder)
    assert result.exit_code == 0, result.output
    manifest = manifest_of(bundle)
    assert manifest.dimensions == 24
    # No token vectors: they have 32 dimensions.
    assert [(o.name, o.normalized) for o in manifest.towers[0].outputs] == [
        ("pooled", False),
        ("sentence_embedding", True),
    ]
    assert_same(run_bundle(bundle, TEXTS), model.encode(TEXTS))
    assert_same(
        run_bundle(bundle, TEXTS, "sentence_embedding"),
        model.encode(TEXTS, normalize_embeddings=True),
    )


def test_a_chain_of_modules(folder: Path, bundle: Path, command: Command) -> None:
    torch.manual_seed(5)
    norm = LayerNorm(24)
    torch.nn.init.uniform_(norm.norm.weight, 0.5, 2.0)
    model = save(
        folder,
        "bert",
        Pooling(WIDTH, "cls"),
        Dropout(0.5),
        Dense(WIDTH, 24, activation_function=torch.nn.GELU(), use_residual=True),
        norm,
        Normalize(),
        Dense(24, 24, bias=False, activation_function=None, use_residual=True),
        Normalize(),
    )
    result = command(folder)
    assert result.exit_code == 0, result.output
    assert_same(run_bundle(bundle, TEXTS), model.encode(TEXTS))


@pytest.mark.parametrize(
    ("mode", "named"),
    [
        ("max", "max"),
        ("lasttoken", "last"),
        ("weightedmean", "weighted_mean"),
        ("mean_sqrt_len_tokens", "mean_sqrt_len"),
        (("cls", "mean", "max"), "concatenated"),
    ],
)
def test_pooling(
    mode: str | tuple[str, ...], named: str, folder: Path, bundle: Path, command: Command
) -> None:
    model = save(folder, "bert", Pooling(WIDTH, mode))
    result = command(folder)
    assert result.exit_code == 0, result.output
    assert text_tower(bundle)[0].outputs[0].pooling == named
    assert_same(run_bundle(bundle, TEXTS), model.encode(TEXTS))


def test_lower_casing(folder: Path, bundle: Path, command: Command) -> None:
    model = save(folder, "distilbert", Pooling(WIDTH))
    # A setting of its own only in older folders.
    edit_json(folder / "sentence_bert_config.json", do_lower_case=True, max_seq_length=40)
    shouted = [text.upper() for text in TEXTS]
    cased = model.encode(shouted)
    model = SentenceTransformer(str(folder), device="cpu")
    assert np.abs(cased - model.encode(shouted)).max() > 0.1
    result = command(folder)
    assert result.exit_code == 0, result.output
    assert text_tower(bundle)[1].max_tokens == 40
    assert_same(run_bundle(bundle, shouted), model.encode(shouted))


def test_an_older_folder(folder: Path, bundle: Path, command: Command) -> None:
    """The transformer in a folder of its own, pickled dense weights, a flag a pooling."""
    torch.manual_seed(5)
    save(folder, "bert", Pooling(WIDTH), Dense(WIDTH, 24))
    (folder / "0_Transformer").mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).rename(folder / "0_Transformer" / name)
    (folder / "sentence_bert_config.json").unlink()
    settings = {"max_seq_length": 30, "do_lower_case": False}
    (folder / "0_Transformer" / "sentence_bert_config.json").write_text(json.dumps(settings))
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    for module in modules:
        module["type"] = "sentence_transformers.models." + module["type"].rpartition(".")[2]
    (folder / "modules.json").write_text(json.dumps(modules))
    flags: dict[str, object] = {"word_embedding_dimension": WIDTH, "pooling_mode_cls_token": False}
    flags |= {"pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(flags))
    dense = folder / "2_Dense"
    edit_json(dense / "config.json", in_features=2 * WIDTH)
    (dense / "model.safetensors").unlink()
    weights = {"linear.weight": torch.randn(24, 2 * WIDTH) / 8, "linear.bias": torch.zeros(24)}
    torch.save(weights, dense / "pytorch_model.bin")
    model = SentenceTransformer(str(folder), device="cpu")
    result = command(folder)
    assert result.exit_code == 0, result.output
    assert text_tower(bundle)[1].max_tokens == 30
    assert_same(run_bundle(bundle, TEXTS), model.encode(TEXTS))


def test_a_plain_transformer_is_mean_pooled(
    folder: Path, bundle: Path, command: Command, tmp_path: Path
) -> None:
    save(tmp_path / "other", "mpnet", Pooling(WIDTH, "cls"), max_tokens=30)
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tmp_path / "other" / name, folder)
    result = command(folder)
    assert result.exit_code == 0, result.output
    assert text_tower(bundle)[1].max_tokens == 30
    model = SentenceTransformer(str(folder), device="cpu")
    assert_same(run_bundle(bundle, TEXTS), model.encode(TEXTS))


def test_prompts_are_optional_in_a_manifest() -> None:
    older = {"kind": "text", "tokenizer": "tokenizer.json", "max_tokens": 8, "pad_id": 0}
    text = TextInput.model_validate(older)
    assert (text.prompts, text.default_prompt) == ({}, None)
    with pytest.raises(ValueError, match="default_prompt 'query' is none of"):
        TextInput.model_validate(older | {"default_prompt": "query"})


def rewrite_modules(folder: Path, kind: str, replacement: str) -> None:
    path = folder / "modules.json"
    path.write_text(path.read_text().replace(f".{kind}", f".{replacement}"))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all of a text encoder's modules."""
    folder = tmp_path_factory.mktemp("saved") / "tiny"
    save(folder, "bert", Pooling(WIDTH), Dense(WIDTH, WIDTH), Normalize())
    return folder


@pytest.mark.parametrize(
    "module",
    [
        "BoW",
        "WordEmbeddings",
        "WordWeights",
        "CNN",
        "LSTM",
        "WeightedLayerPooling",
        "StaticEmbedding",
        "Router",
        "Asym",
        "CLIPModel",
        "SomethingNew",
    ],
)
def test_unsupported_module_is_refused(
    module: str, saved: Path, folder: Path, repository: Path, command: Command
) -> None:
    shutil.copytree(saved, folder)
    rewrite_modules(folder, "Dense", module)
    result = command(folder)
    assert result.exit_code == 1
    assert f"modules.json: module {module} is not supported: " in result.stderr
    assert not repository.exists()


def test_folder_without_a_transformer_is_refused(folder: Path, command: Command) -> None:
    folder.mkdir()
    modules = [
        {"path": path, "type": f"sentence_transformers.models.{path[2:]}"}
        for path in ("0_BoW", "1_Dense")
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    result = command(folder)
    assert result.exit_code == 1
    assert "module BoW is not supported" in result.stderr


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        (["Transformer"], "Transformer is not Transformer, Pooling and then any of"),
        (["Transformer", "Pooling", "Pooling"], "Pooling, Pooling is not"),
        (["Pooling", "Transformer"], "Pooling, Transformer is not"),
        ([], "no module is not"),
    ],
)
def test_order_of_modules_is_refused(
    kinds: list[str], said: str, saved: Path, folder: Path, command: Command
) -> None:
    shutil.copytree(saved, folder)
    write_modules(folder, *kinds)
    result = command(folder)
    assert result.exit_code == 1
    assert said in result.stderr


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"type": "my_code.Pooling"}, "my_code.Pooling is code of the model's own"),
        ({"kwargs": ["task"]}, "Pooling takes ['task'] from each call"),
        ({"path": "../1_Pooling"}, "../1_Pooling is not inside the folder"),
        ({"path": "/etc"}, "/etc is not inside the folder"),
    ],
)
def test_entry_of_a_module_is_refused(
    entry: dict[str, object], said: str, saved: Path, folder: Path, command: Command
) -> None:
    shutil.copytree(saved, folder)
    modules = json.loads((folder / "modules.json").read_text())
    modules[1] |= entry
    (folder / "modules.json").write_text(json.dumps(modules))
    result = command(folder)
    assert result.exit_code == 1
    assert said in result.stderr


@pytest.mark.parametrize(
    ("file", "changes", "said"),
    [
        ("1_Pooling/config.json", {"pooling_mode": "attention"}, "pooling_mode attention"),
        ("1_Pooling/config.json", {"pooling_mode_median": True}, "pooling_mode_median"),
        ("1_Pooling/config.json", {"include_prompt": False}, "include_prompt false (Instructor"),
        ("2_Dense/config.json", {"module_input_name": "token_embeddings"}, "module_input_name"),
        ("2_Dense/config.json", {"activation_function": "my_code.Swish"}, "my_code.Swish"),
        ("2_Dense/config.json", {"activation_function": "torch.nn.init"}, "torch.nn.init"),
        ("2_Dense/config.json", {"out_features": 8}, "2_Dense: its weights do not fit"),
        ("3_Normalize/config.json", {"module_output_name": "other"}, "module_output_name other"),
        ("sentence_bert_config.json", {"transformer_task": "fill-mask"}, "transformer_task"),
        ("sentence_bert_config.json", {"query_length": 8}, "query_length 8"),
        ("sentence_bert_config.json", {"model_args": {"rotary": 2}}, "model_args rotary"),
        ("sentence_bert_config.json", {"processing_kwargs": {"text": {"max_length": 9}}}, "text"),
        ("config_sentence_transformers.json", {"truncate_dim": 8}, "truncate_dim 8"),
        ("config_sentence_transformers.json", {"model_type": "SparseEncoder"}, "SparseEncoder"),
        ("config_sentence_transformers.json", {"default_prompt_name": "x"}, "default_prompt_name"),
        ("tokenizer_config.json", {"truncation_side": "left"}, "truncation_side left"),
        ("config.json", {"model_type": "t5"}, "model_type t5"),
        ("config.json", {"is_decoder": True}, "is_decoder True"),
        ("config.json", {"position_embedding_type": "relative_key"}, "relative_key"),
        ("config.json", {"auto_map": {"AutoModel": "code.Bert"}}, "code.Bert"),
    ],
)
def test_unsupported_setting_is_refused(
    file: str,
    changes: dict[str, object],
    said: str,
    saved: Path,
    folder: Path,
    repository: Path,
    command: Command,
) -> None:
    shutil.copytree(saved, folder)
    edit_json(folder / file, **changes)
    result = command(folder)
    assert result.exit_code == 1
    assert said in result.stderr
    assert not repository.exists()


def test_adapter_is_refused(saved: Path, folder: Path, command: Command) -> None:
    shutil.copytree(saved, folder)
    (folder / "adapter_config.json").write_text("{}")
    result = command(folder)
    assert result.exit_code == 1
    assert "merge it into the model" in result.stderr


def test_missing_dense_weights_are_not_made_up(saved: Path, folder: Path, command: Command) -> None:
    shutil.copytree(saved, folder)
    (folder / "2_Dense" / "model.safetensors").unlink()
    result = command(folder)
    assert result.exit_code == 1
    assert "2_Dense has no weights" in result.stderr
