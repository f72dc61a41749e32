"""Catalog settings against the published sizes of the models."""

import pytest
import torch
import transformers
from transformers import (
    AutoConfig,
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    WhisperConfig,
    WhisperModel,
)

from vecserve_export import catalog
from vecserve_export.families.image_encoder import BACKBONES

# Parameters as published: torchvision's tables less the classifier, OpenAI's
# CLIP and Whisper (the encoder's share), the hub's BERT models less the pooler.
PARAMETERS = {
    "all-MiniLM-L6-v2": 22_713_216 - 147_840,
    "all-MiniLM-L12-v2": 33_360_000 - 147_840,
    "e5-small-v2": 33_360_000 - 147_840,
    "gte-base": 109_482_240 - 590_592,
    "bge-base-en-v1.5": 109_482_240 - 590_592,
    "bge-large-en-v1.5": 335_141_888 - 1_049_600,
    "resnet-18": 11_689_512 - 513_000,
    "resnet-34": 21_797_672 - 513_000,
    "resnet-50": 25_557_032 - 2_049_000,
    "resnet-101": 44_549_160 - 2_049_000,
    "resnet-152": 60_192_808 - 2_049_000,
    # Less the classifiers of 1,000 classes; with the pooler where there is one.
    "dinov2-small": 22_056_576,
    "dinov2-base": 86_580_480,
    "dinov2-large": 304_368_640,
    "vit-base-patch16-224-in21k": 86_389_248,
    "convnext-tiny-224": 28_589_128 - 769_000,
    "swin-tiny-patch4-window7-224": 28_288_354 - 769_000,
    "siglip-base-patch16-224": 92_884_224,
    "clip-vit-base-patch32": 151_277_313,
    "clip-vit-base-patch16": 149_620_737,
    "clip-vit-large-patch14": 427_616_513,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_settings_give_the_published_size(name: str) -> None:
    known = catalog.find(name)
    assert known is not None
    assert known.settings is not None
    settings = {
        k: v for k, v in known.settings.items() if k not in ("model_type", "pooling", "max_tokens")
    }
    with torch.device("meta"):
        match known.family:
            case "bert":
                model = BertModel(BertConfig(**settings), add_pooling_layer=False)
            case "clip":
                model = CLIPModel(CLIPConfig(**settings))
            case family:
                model_class = getattr(transformers, BACKBONES[family].model_class)
                model = model_class(AutoConfig.for_model(**settings["model"]))
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize(
    ("name", "millions"),
    [("tiny", 8.2), ("base", 20.6), ("small", 88.2), ("medium", 307.2), ("large-v3", 637.0)],
)
def test_whisper_settings_give_the_known_encoder(name: str, millions: float) -> None:
    known = catalog.find(f"whisper-{name}")
    assert known is not None
    assert known.settings is not None
    with torch.device("meta"):
        encoder = WhisperModel(WhisperConfig(**known.settings, decoder_layers=1)).encoder
    assert round(sum(p.numel() for p in encoder.parameters()) / 1e6, 1) == millions
