"""Image preprocessing of a checkpoint, from its preprocessor_config.json."""

from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import torch

from vecserve_export.errors import Unsupported
from vecserve_server.repository.manifest import ImageInput

# PIL.Image.Resampling's numbers, as preprocessor_config.json stores them.
_FILTERS = {1: "lanczos", 2: "bilinear", 3: "bicubic"}


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


def clip_preprocessing(config: dict[str, Any]) -> Preprocessing:
    """Read a CLIPImageProcessor's settings: resize the shortest edge, crop the centre.

    Raises Unsupported for a setting that is not built.
    """
    _require(config, {"do_resize": True, "do_center_crop": True})
    size, crop = config.get("size", 224), config.get("crop_size", 224)
    if isinstance(size, dict):
        if set(size) != {"shortest_edge"}:
            raise Unsupported(f"preprocessor_config.json: size {size} is not a shortest edge")
        size = size["shortest_edge"]
    if isinstance(crop, int):
        crop = {"height": crop, "width": crop}
    return _preprocessing(config, size, crop["height"], crop["width"])


def convnext_preprocessing(config: dict[str, Any]) -> Preprocessing:
    """Read a ConvNextImageProcessor's settings: a centre crop of `crop_pct` of the image.

    Raises Unsupported for a setting that is not built.
    """
    _require(config, {"do_resize": True, "do_center_crop": None})
    size = config.get("size", 224)
    if isinstance(size, dict):
        size = size.get("shortest_edge")
    if not isinstance(size, int) or size >= 384:
        # From 384 the processor warps the image to a square, which no bundle can say.
        raise Unsupported(f"preprocessor_config.json: size {config['size']} is not supported")
    return _preprocessing(config, int(size / config.get("crop_pct", 224 / 256)), size, size)


def _require(config: dict[str, Any], steps: dict[str, bool | None]) -> None:
    wanted = {"do_rescale": True, "do_normalize": True, "do_pad": None, **steps}
    for key, value in wanted.items():
        if bool(config.get(key, value)) != bool(value):
            raise Unsupported(
                f"preprocessor_config.json: {key} is {config[key]}; only {value} is supported"
            )


def _preprocessing(config: dict[str, Any], edge: int, height: int, width: int) -> Preprocessing:
    resample = config.get("resample", 3)
    if resample not in _FILTERS:
        raise Unsupported(f"preprocessor_config.json: resample {resample} is not supported")
    return Preprocessing(
        input=ImageInput(
            resize_shortest_edge=edge,
            resample=cast(Literal["bilinear", "bicubic", "lanczos"], _FILTERS[resample]),
            crop_height=height,
            crop_width=width,
        ),
        rescale=config.get("rescale_factor", 1 / 255),
        mean=tuple(config["image_mean"]),
        std=tuple(config["image_std"]),
    )
