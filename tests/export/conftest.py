"""Tiny checkpoints of every family, and the exporter's command."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizer,
    CLIPConfig,
    CLIPModel,
    PerceiverConfig,
    PerceiverForMultimodalAutoencoding,
    ResNetConfig,
    ResNetModel,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)
from typer.testing import CliRunner, Result

from vecserve_export import packages, weights
from vecserve_export.__main__ import app
from vecserve_export.errors import WeightsUnavailable
from vecserve_export.families.clip import bpe_tokenizer

Command = Callable[..., Result]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test of this folder depends on what can be reached."""

    def refuse(*_: object, **__: object) -> str:
        raise OSError("no network in tests")

    monkeypatch.setattr(weights, "snapshot_download", refuse)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("VECSERVE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "500")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Where this test's bundles go."""
    return tmp_path / "models"


@pytest.fixture
def command(repository: Path) -> Command:
    """Runs `vecserve-export` in this process."""

    def run(*arguments: str | Path) -> Result:
        return CliRunner().invoke(app, [*map(str, arguments), "--output", str(repository)])

    return run


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkpoints tiny-bert, -clip, -perceiver, -resnet and -whisper."""
    root = tmp_path_factory.mktemp("checkpoints")
    with torch.random.fork_rng():
        torch.manual_seed(7)
        _bert(root / "tiny-bert")
        write_tiny_clip(root / "tiny-clip")
        _perceiver(root / "tiny-perceiver")
        _resnet(root / "tiny-resnet")
        _whisper(root / "tiny-whisper")
    return root


def _bert(folder: Path) -> None:
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,'?"
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "is", "cat"]
    tokens += [*letters, *("##" + letter for letter in letters)]
    BertTokenizer(vocab={token: n for n, token in enumerate(tokens)}).save_pretrained(folder)
    BertModel(
        BertConfig(
            vocab_size=len(tokens),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=64,
        )
    ).save_pretrained(folder)
    write_modules(folder, "Transformer", "Pooling", "Normalize")
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 48}')
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')


def write_modules(folder: Path, *kinds: str) -> None:
    """Write a modules.json of these modules, in the folders that sentence-transformers gives."""
    modules = [
        {
            "type": f"sentence_transformers.models.{kind}",
            "path": "" if kind == "Transformer" else f"{number}_{kind}",
        }
        for number, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))


def write_clip_merges(path: Path) -> None:
    """Write a merges file in the format of OpenAI's, with three merges."""
    path.write_bytes(gzip.compress(b"#version\nt h\nth e</w>\nc a"))


def write_tiny_clip(folder: Path) -> None:
    """Write a CLIP checkpoint of two layers a tower, with random weights."""
    folder.mkdir()
    write_clip_merges(folder / "merges.gz")
    tokenizer = bpe_tokenizer(folder / "merges.gz")
    (folder / "merges.gz").unlink()
    tokenizer.save_pretrained(folder)
    size = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    CLIPModel(
        CLIPConfig(
            projection_dim=16,
            text_config={
                **size,
                "num_hidden_layers": 2,
                "vocab_size": len(tokenizer),
                "max_position_embeddings": 24,
                "projection_dim": 16,
                "bos_token_id": tokenizer.bos_token_id,
                "eos_token_id": tokenizer.eos_token_id,
                "pad_token_id": tokenizer.eos_token_id,
            },
            vision_config={
                **size,
                "num_hidden_layers": 2,
                "image_size": 32,
                "patch_size": 8,
                "projection_dim": 16,
            },
        )
    ).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "image_processor_type": "CLIPImageProcessor",
                "size": {"shortest_edge": 36},
                "crop_size": {"height": 32, "width": 32},
                "do_resize": True,
                "do_center_crop": True,
                "do_normalize": True,
                "resample": 3,
                "image_mean": [0.5, 0.4, 0.3],
                "image_std": [0.2, 0.25, 0.3],
            }
        )
    )


def _perceiver(folder: Path) -> None:
    """Two frames, which are of 224 x 224 pixels all the same."""
    PerceiverForMultimodalAutoencoding(
        PerceiverConfig(
            num_frames=2,
            audio_samples_per_frame=320,
            output_shape=[1, 2, 224, 224],
            num_latents=8,
            d_latents=16,
            qk_channels=16,
            v_channels=16,
            num_self_attends_per_block=2,
            num_self_attention_heads=2,
            num_cross_attention_heads=1,
            num_labels=700,
            output_num_channels=16,
        )
    ).save_pretrained(folder)


def _resnet(folder: Path) -> None:
    model = ResNetModel(
        ResNetConfig(embedding_size=8, hidden_sizes=[16, 24], depths=[1, 2], hidden_act="relu")
    )
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            # As after training; the fresh ones would hide a batch norm that is left out.
            assert module.running_mean is not None
            assert module.running_var is not None
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "feature_extractor_type": "ConvNextFeatureExtractor",
                "crop_pct": 0.875,
                "do_resize": True,
                "do_normalize": True,
                "size": 64,
                "resample": 2,
                "image_mean": [0.485, 0.456, 0.406],
                "image_std": [0.229, 0.224, 0.225],
            }
        )
    )


def tiny_whisper() -> WhisperForConditionalGeneration:
    """A Whisper small enough to trace in seconds; its window is 30 s all the same."""
    return WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=300,
            num_mel_bins=80,
            d_model=64,
            encoder_layers=2,
            encoder_attention_heads=1,
            encoder_ffn_dim=96,
            decoder_layers=1,
            decoder_attention_heads=1,
            decoder_ffn_dim=32,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=1,
        )
    )


def _whisper(folder: Path) -> None:
    tiny_whisper().save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=80).save_pretrained(folder)


@pytest.fixture
def no_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """No package can be downloaded."""

    def refuse(*_: object) -> Path:
        raise WeightsUnavailable("no packages in this test")

    monkeypatch.setattr(packages, "fetch", refuse)
