"""Image preprocessing of a checkpoint, from its preprocessor_config.json."""

from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import torch

from vecserve_export.checkpoint import Checkpoint
from vecserve_export.errors import Unsupported
from vecserve_server.repository.manifest import ImageInput

_FILE = "preprocessor_config.json"
_PROCESSORS_FILE = "processor_config.json"
# PIL.Image.Resampling's numbers, as preprocessor_config.json stores them.
_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
_OPENAI_MEAN, _OPENAI_STD = (
    [0.48145466, 0.4578275, 0.40821073],
    [0.26862954, 0.26130258, 0.27577711],
)
_HALF = [0.5, 0.5, 0.5]
_SQUARE_224 = {"height": 224, "width": 224}


def _resize_and_crop(size: dict[str, int], mean: list[float], std: list[float]) -> dict[str, Any]:
    return {
        "do_center_crop": True,
        "do_convert_rgb": True,
        "size": size,
        "crop_size": _SQUARE_224,
        "resample": 3,
        "image_mean": mean,
        "image_std": std,
    }


# What each processor of transformers takes where the file says nothing.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "CLIP": _resize_and_crop({"shortest_edge": 224}, _OPENAI_MEAN, _OPENAI_STD),
    "Bit": _resize_and_crop({"shortest_edge": 224}, _OPENAI_MEAN, _OPENAI_STD),
    "DeiT": {
        **_resize_and_crop({"height": 256, "width": 256}, _HALF, _HALF),
        "do_convert_rgb": False,
    },
    "ViT": {"size": _SQUARE_224, "resample": 2, "image_mean": _HALF, "image_std": _HALF},
    "Siglip": {
        "do_convert_rgb": True,
        "size": _SQUARE_224,
        "resample": 3,
        "image_mean": _HALF,
        "image_std": _HALF,
    },
    "ConvNext": {
        "size": {"shortest_edge": 384},
        "crop_pct": 224 / 256,
        "resample": 3,
        "image_mean": _HALF,
        "image_std": _HALF,
    },
}
# Those that make a square of a size that is one number.
_SQUARE = ("DeiT", "ViT")
# From this size on, ConvNext's processor squashes the image instead of cropping it.
_CONVNEXT_SQUASHES_FROM = 384

_STEPS = {
    "do_resize": True,
    "do_rescale": True,
    "do_normalize": True,
    "do_center_crop": False,
    "do_convert_rgb": False,
    "do_pad": False,
    "rescale_factor": 1 / 255,
}
_VALUES = ("size", "crop_size", "crop_pct", "resample", "image_mean", "image_std")
# They name classes, or how arrays are passed around inside transformers.
_OF_NO_EFFECT = (
    "image_processor_type",
    "feature_extractor_type",
    "processor_class",
    "auto_map",
    "data_format",
    "input_data_format",
    "return_tensors",
    "device",
    "disable_grouping",
    "default_to_square",
)


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Resize and crop (the server's part), rescale and normalise (the graph's)."""

    input: ImageInput
    rescale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def reference(self, pixels: npt.NDArray[np.uint8]) -> torch.Tensor:
        """Return float32 [batch, 3, H, W] for uint8 [batch, H, W, 3], by way of float64."""
        values = (pixels * self.rescale - np.array(self.mean)) / np.array(self.std)
        return torch.from_numpy(values.transpose(0, 3, 1, 2).astype(np.float32))


class PixelsToValues(torch.nn.Module):
    """uint8 [batch, H, W, 3] to the float32 [batch, 3, H, W] a vision model takes.

    (x * rescale - mean) / std is one multiplication and one addition.
    """

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        mean = torch.tensor(preprocessing.mean, dtype=torch.float64)
        std = torch.tensor(preprocessing.std, dtype=torch.float64)
        self.register_buffer("scale", (preprocessing.rescale / std).float().view(1, 3, 1, 1))
        self.register_buffer("shift", (-mean / std).float().view(1, 3, 1, 1))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the normalised channels-first values."""
        return pixels.permute(0, 3, 1, 2).to(torch.float32) * self.scale + self.shift


def preprocessing_of(checkpoint: Checkpoint) -> Preprocessing:
    """Read a processor that resizes, crops, rescales and normalises.

    Raises Unsupported, which names the setting, for anything else.
    """
    # transformers 5 writes a model's several processors into one file.
    config = checkpoint.json(_PROCESSORS_FILE).get("image_processor") or checkpoint.json(_FILE)
    kind = _kind(config)
    if unknown := sorted(
        key
        for key, value in config.items()
        if key not in (*_STEPS, *_VALUES, *_OF_NO_EFFECT) and value is not None
    ):
        raise Unsupported(f"{_FILE}: {', '.join(unknown)}: not known, so not supported")
    given = {key: value for key, value in config.items() if value is not None}
    settings = {**_STEPS, **_DEFAULTS[kind], **given}
    for key, wanted in (
        ("do_resize", True),
        ("do_rescale", True),
        ("do_normalize", True),
        ("do_pad", False),
    ):
        if bool(settings[key]) is not wanted:
            raise _unsupported(key, settings[key], f"only {str(wanted).lower()}")
    return Preprocessing(
        input=_input(kind, settings),
        rescale=_number(settings, "rescale_factor"),
        mean=_colour(settings, "image_mean"),
        std=_colour(settings, "image_std"),
    )


def _kind(config: dict[str, Any]) -> str:
    """Return which of _DEFAULTS a processor is of, by its class's name."""
    name = str(config.get("image_processor_type") or config.get("feature_extractor_type") or "none")
    kind = name
    for ending in ("Pil", "Fast", "ImageProcessor", "FeatureExtractor"):
        kind = kind.removesuffix(ending)
    if kind not in _DEFAULTS or kind == name:
        known = ", ".join(f"{kind}ImageProcessor" for kind in _DEFAULTS)
        raise Unsupported(f"{_FILE}: the image processor {name} is none of {known}")
    return kind


def _input(kind: str, settings: dict[str, Any]) -> ImageInput:
    resample = settings["resample"]
    if resample not in _FILTERS:
        raise _unsupported("resample", resample, f"only {', '.join(map(str, _FILTERS))}")
    size = settings["size"]
    if isinstance(size, int):
        exact = kind in _SQUARE
        size = {"height": size, "width": size} if exact else {"shortest_edge": size}
    if not isinstance(size, dict) or set(size) not in ({"shortest_edge"}, {"height", "width"}):
        raise _unsupported("size", size, "only shortest_edge, or height and width")
    edge = size.get("shortest_edge")
    resized = (size.get("height"), size.get("width"))
    crop = _crop(settings)
    if kind == "ConvNext":
        if crop is not None or edge is None:
            raise _unsupported("size" if edge is None else "do_center_crop", size, "shortest_edge")
        crop = (edge, edge)
        if edge >= _CONVNEXT_SQUASHES_FROM:
            edge, resized = None, crop
        else:
            edge = int(edge / _number(settings, "crop_pct"))
    elif crop is None:
        if edge is not None:
            raise Unsupported(
                f"{_FILE}: size {size} without do_center_crop gives every image a shape of its own"
            )
        crop = (size["height"], size["width"])
    return ImageInput(
        resize_shortest_edge=edge,
        resize_height=resized[0],
        resize_width=resized[1],
        resample=cast(
            Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"],
            _FILTERS[resample],
        ),
        crop_height=crop[0],
        crop_width=crop[1],
        # What converts to RGB itself composites; for the others the caller has done it.
        transparency="white" if settings["do_convert_rgb"] else "drop",
    )


def _crop(settings: dict[str, Any]) -> tuple[int, int] | None:
    """Return height and width of the centre that is kept, None for all."""
    if not settings["do_center_crop"]:
        return None
    crop = settings.get("crop_size")
    if isinstance(crop, int):
        return crop, crop
    if not isinstance(crop, dict) or set(crop) != {"height", "width"}:
        raise _unsupported("crop_size", crop, "only height and width")
    return crop["height"], crop["width"]


def _number(settings: dict[str, Any], key: str) -> float:
    value = settings[key]
    if not isinstance(value, int | float) or not value > 0:
        raise _unsupported(key, value, "only a positive number")
    return float(value)


def _colour(settings: dict[str, Any], key: str) -> tuple[float, ...]:
    values = settings[key]
    if not isinstance(values, list) or len(values) != 3:
        raise _unsupported(key, values, "only one number a colour")
    return tuple(float(value) for value in values)


def _unsupported(key: str, value: object, supported: str) -> Unsupported:
    return Unsupported(f"{_FILE}: {key} is {value}; {supported} is supported")
