"""Image encoders of transformers: tiny random ones, exported, against transformers itself.

The pixels are compared with those of the checkpoint's own processor, bit by bit, for
pictures of odd sizes; the vectors with the model's pooled output for them.
"""

import json
import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest
import torch
import transformers
from transformers import AutoConfig, AutoImageProcessor

from tests.export.conftest import Command
from tests.export.test_families import edit_json, manifest_of, run_graph
from vecserve_export.families.image_encoder import BACKBONES, vector_of
from vecserve_server.modalities.content import Limits
from vecserve_server.modalities.image import EncodedImage, ImageModality
from vecserve_server.repository.manifest import ImageInput, Pooling

Pixels = npt.NDArray[np.uint8]

_TRANSFORMER = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "patch_size": 8,
}
_COLOURS = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.3]}
_SQUARE_32 = {"height": 32, "width": 32}
_CROP = {"do_center_crop": True, "crop_size": _SQUARE_32, "resample": 3, "do_convert_rgb": True}
_CONVNEXT = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1]}
_SWIN = {"image_size": 32, "patch_size": 2, "window_size": 4, "embed_dim": 8, "num_heads": [1, 2]}
_SWIN_DEPTHS = {"depths": [1, 2]}

# By name: config.json, preprocessor_config.json.
CHECKPOINTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "convnext": (
        {"model_type": "convnext", **_CONVNEXT},
        {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 32}},
    ),
    "convnext-384": (
        {"model_type": "convnext", "hidden_sizes": [4, 4, 8, 8], "depths": [1, 1, 1, 1]},
        {"feature_extractor_type": "ConvNextFeatureExtractor", "size": 384, "resample": 2},
    ),
    "convnextv2": (
        {"model_type": "convnextv2", **_CONVNEXT},
        {"image_processor_type": "ConvNextImageProcessor", "size": 40, "crop_pct": 0.9},
    ),
    "deit": (
        {"model_type": "deit", **_TRANSFORMER, "image_size": 32},
        {"image_processor_type": "DeiTImageProcessor", "size": 37, "crop_size": 32},
    ),
    "dinov2": (
        # As the published ones: trained on larger images than the processor makes.
        {"model_type": "dinov2", **_TRANSFORMER, "image_size": 56, "mlp_ratio": 2},
        {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 35}, **_CROP},
    ),
    "dinov2-with-registers": (
        {"model_type": "dinov2_with_registers", **_TRANSFORMER, "image_size": 32, "mlp_ratio": 2},
        {"image_processor_type": "BitImageProcessorFast", "size": {"shortest_edge": 36}, **_CROP},
    ),
    "regnet": (
        {
            "model_type": "regnet",
            "embedding_size": 8,
            "hidden_sizes": [8, 16],
            "depths": [1, 2],
            "groups_width": 4,
        },
        {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 33}},
    ),
    "siglip": (
        {
            "model_type": "siglip",
            "text_config": {**_TRANSFORMER, "vocab_size": 50},
            "vision_config": {**_TRANSFORMER, "image_size": 32},
        },
        {"image_processor_type": "SiglipImageProcessor", "size": _SQUARE_32},
    ),
    "siglip-vision-model": (
        {"model_type": "siglip_vision_model", **_TRANSFORMER, "image_size": 24},
        {"image_processor_type": "SiglipImageProcessor", "size": {"height": 24, "width": 24}},
    ),
    "swin": (
        {"model_type": "swin", **_SWIN, **_SWIN_DEPTHS},
        {"feature_extractor_type": "ViTFeatureExtractor", "size": 32, "resample": 3},
    ),
    "swinv2": (
        {"model_type": "swinv2", **_SWIN, **_SWIN_DEPTHS},
        {"image_processor_type": "ViTImageProcessor", "size": _SQUARE_32, "resample": 5},
    ),
    "vit": (
        {"model_type": "vit", **_TRANSFORMER, "image_size": 32},
        {"image_processor_type": "ViTImageProcessor", "size": _SQUARE_32, "resample": 2},
    ),
}


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one checkpoint each."""
    root = tmp_path_factory.mktemp("encoders")
    with torch.random.fork_rng():
        torch.manual_seed(3)
        for name, (model, preprocessor) in CHECKPOINTS.items():
            config = AutoConfig.for_model(**model)
            if model["model_type"] == "siglip":
                made = transformers.SiglipModel(config)
            else:
                backbone = BACKBONES[model["model_type"]]
                made = getattr(transformers, backbone.model_class)(config)
            made.save_pretrained(root / name)
            settings = {**_COLOURS, **preprocessor}
            (root / name / "preprocessor_config.json").write_text(json.dumps(settings))
    return root


def picture(width: int, height: int) -> PIL.Image.Image:
    noise = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return PIL.Image.fromarray(noise)


def pixels_of(spec: ImageInput, image: PIL.Image.Image) -> Pixels:
    """What the server makes of a file."""
    file = BytesIO()
    image.save(file, "PNG")
    modality = ImageModality(spec, Path(), Limits())
    (row,) = modality.prepare(EncodedImage(file.getvalue()), refuse_truncation=False).rows
    return row.feeds[spec.graph_input].astype(np.uint8, copy=False)


PICTURES = [picture(301, 217), picture(61, 143), picture(33, 31), picture(5, 64)]


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_pixels_and_vectors_are_those_of_transformers(
    name: str, encoders: Path, command: Command, repository: Path
) -> None:
    result = command(encoders / name)
    assert result.exit_code == 0, result.output
    bundle = repository / name / "1"
    (tower,) = manifest_of(bundle).towers
    assert isinstance(tower.input, ImageInput)
    ours = np.stack([pixels_of(tower.input, image) for image in PICTURES])
    processor = AutoImageProcessor.from_pretrained(encoders / name, backend="pil")
    theirs = processor(
        PICTURES, do_rescale=False, do_normalize=False, return_tensors="np"
    ).pixel_values
    assert np.array_equal(ours, np.moveaxis(theirs, 1, -1))

    backbone = BACKBONES[CHECKPOINTS[name][0]["model_type"]]
    model = getattr(transformers, backbone.model_class).from_pretrained(encoders / name).eval()
    with torch.inference_mode():
        values = processor(PICTURES, return_tensors="pt").pixel_values
        expected = model(values).pooler_output.flatten(1).numpy()
    outputs = run_graph(bundle / "image.onnx", {"pixels": ours})
    scale = float(np.abs(expected).max())
    np.testing.assert_allclose(outputs["pooled"], expected, atol=1e-4 * scale)


def test_transparency_is_the_processors(encoders: Path, command: Command, repository: Path) -> None:
    """A GIF's transparent colour and a PNG's alpha, for a processor that converts to RGB."""
    assert command(encoders / "dinov2").exit_code == 0
    (tower,) = manifest_of(repository / "dinov2" / "1").towers
    assert isinstance(tower.input, ImageInput)
    processor = AutoImageProcessor.from_pretrained(encoders / "dinov2", backend="pil")
    alpha = picture(301, 217)
    alpha.putalpha(PIL.Image.linear_gradient("L").resize(alpha.size))
    keyed = picture(61, 143).convert("P")
    keyed.info["transparency"] = 7
    for image in (alpha, keyed):
        theirs = processor(image, do_rescale=False, do_normalize=False).pixel_values[0]
        ours = pixels_of(tower.input, image)
        assert np.array_equal(ours, np.moveaxis(theirs, 0, -1))
        assert not np.array_equal(ours, pixels_of(tower.input, image.convert("RGB")))


def test_a_classifier_without_a_pooler_gives_its_class_token(
    encoders: Path, command: Command, repository: Path, tmp_path: Path
) -> None:
    config = AutoConfig.from_pretrained(encoders / "vit")
    classifier = transformers.ViTForImageClassification(config).eval()
    classifier.save_pretrained(tmp_path / "classifier")
    shutil.copy(encoders / "vit" / "preprocessor_config.json", tmp_path / "classifier")
    result = command(tmp_path / "classifier")
    assert result.exit_code == 0, result.output
    bundle = repository / "classifier" / "1"
    (output,) = manifest_of(bundle).towers[0].outputs
    assert output.pooling is Pooling.CLS
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    values = (pixels / 255 - np.array(_COLOURS["image_mean"])) / np.array(_COLOURS["image_std"])
    with torch.inference_mode():
        hidden = classifier.vit(torch.from_numpy(values.transpose(0, 3, 1, 2)).float())
    expected = vector_of(hidden).numpy()
    assert np.array_equal(expected, hidden.last_hidden_state[:, 0].numpy())
    outputs = run_graph(bundle / "image.onnx", {"pixels": pixels})
    np.testing.assert_allclose(outputs["pooled"], expected, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("dinov2", {"do_center_crop": False}, "do_center_crop"),
        ("dinov2", {"resample": 7}, "resample is 7"),
        ("dinov2", {"size": {"shortest_edge": 36, "longest_edge": 99}}, "size is"),
        ("dinov2", {"crop_size": {"shortest_edge": 32}}, "crop_size is"),
        ("vit", {"size": {"shortest_edge": 32}}, "without do_center_crop"),
        ("vit", {"size": {"height": 24, "width": 24}}, "does not take the pixels"),
        ("vit", {"do_resize": False}, "do_resize is False"),
        ("vit", {"do_rescale": False}, "do_rescale is False"),
        ("vit", {"do_normalize": False}, "do_normalize is False"),
        ("vit", {"do_pad": True}, "do_pad is True"),
        ("vit", {"do_flip_channel_order": True}, "do_flip_channel_order"),
        ("vit", {"do_reduce_labels": False}, "do_reduce_labels"),
        ("vit", {"image_mean": 0.5}, "image_mean is 0.5"),
        ("vit", {"image_processor_type": "BeitImageProcessor"}, "BeitImageProcessor"),
        ("convnext", {"do_center_crop": True, "crop_size": 30}, "do_center_crop"),
        ("convnext", {"crop_pct": 0}, "crop_pct is 0"),
    ],
)
def test_a_setting_that_is_not_supported_is_named(
    name: str,
    changes: dict[str, object],
    said: str,
    encoders: Path,
    command: Command,
    repository: Path,
    tmp_path: Path,
) -> None:
    copy = Path(shutil.copytree(encoders / name, tmp_path / name))
    edit_json(copy / "preprocessor_config.json", **changes)
    result = command(copy)
    assert result.exit_code == 1, result.output
    assert said in result.stderr
    assert not repository.exists()


def test_the_file_of_several_processors_comes_first(
    encoders: Path, command: Command, repository: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(encoders / "siglip", tmp_path / "siglip"))
    ours = {**CHECKPOINTS["siglip"][1], **_COLOURS, "resample": 1}
    (copy / "processor_config.json").write_text(json.dumps({"image_processor": ours}))
    assert AutoImageProcessor.from_pretrained(copy, backend="pil").resample == 1
    assert command(copy).exit_code == 0
    (tower,) = manifest_of(repository / "siglip" / "1").towers
    assert isinstance(tower.input, ImageInput)
    assert tower.input.resample == "lanczos"


def test_a_checkpoint_without_a_processor_is_refused(
    encoders: Path, command: Command, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(encoders / "vit", tmp_path / "vit"))
    (copy / "preprocessor_config.json").unlink()
    result = command(copy)
    assert result.exit_code == 1
    assert "the image processor none is none of" in result.stderr
