"""torchvision's ResNets as a file of weights: a state dict written by torch.save.

`resnet50` and its kin (`resnet50-0676ba61.pth`), without the classifier; and Meta's
SSCD (`sscd_disc_mixup.torchvision.pt`), the same network with another head. Their
weights go into transformers' ResNet, which is the same network under other names.
"""

import pickle
import re
from typing import Any

import torch
from transformers import ResNetConfig, ResNetModel

from vecserve_export.checkpoint import Checkpoint
from vecserve_export.errors import Unsupported
from vecserve_export.families import image_encoder, sscd
from vecserve_export.families.images import Preprocessing
from vecserve_export.plan import Plan
from vecserve_server.repository.manifest import ImageInput, Pooling

FILE = "torchvision.pth"

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Of `ResNet50_Weights.IMAGENET1K_V1.transforms()`; torchvision's CenterCrop rounds half
# to even. V2's shortest edge is 232: the file does not say which it is.
_PREPROCESSING = Preprocessing(
    input=ImageInput(
        resize_shortest_edge=256,
        resample="bilinear",
        crop_height=224,
        crop_width=224,
        crop_rounding="half_even",
    ),
    rescale=1 / 255,
    mean=_IMAGENET_MEAN,
    std=_IMAGENET_STD,
)
_SSCD_PREFIX = "backbone."

Weights = dict[str, torch.Tensor]


def plan(checkpoint: Checkpoint) -> Plan:
    """Plan the bundle of a ResNet's weights, or of SSCD's. Raises Unsupported."""
    weights = _read(checkpoint)
    if f"{_SSCD_PREFIX}conv1.weight" in weights:
        trunk = {name.removeprefix(_SSCD_PREFIX): tensor for name, tensor in weights.items()}
        preprocessing = Preprocessing(
            sscd.image_input("pixels"), 1 / 255, _IMAGENET_MEAN, _IMAGENET_STD
        )
        return sscd.plan_of(resnet(trunk), trunk["fc.weight"], trunk["fc.bias"], preprocessing)
    return image_encoder.plan_of(
        resnet(weights), _PREPROCESSING, Pooling.MEAN, "Image encoder, ResNet of torchvision"
    )


def resnet(weights: Weights) -> Any:
    """Return transformers' ResNet with torchvision's weights but the classifier's.

    Raises Unsupported if they are not a ResNet's (a Wide ResNet, a ResNeXt).
    """
    stages: dict[int, int] = {}
    for name in weights:
        if found := re.match(r"layer(\d+)\.(\d+)\.", name):
            stage, block = int(found[1]), int(found[2])
            stages[stage] = max(stages.get(stage, 0), block + 1)
    last = "conv3" if "layer1.0.conv3.weight" in weights else "conv2"
    try:
        model = ResNetModel(
            ResNetConfig(
                embedding_size=len(weights["conv1.weight"]),
                depths=[stages[stage] for stage in sorted(stages)],
                hidden_sizes=[
                    len(weights[f"layer{stage}.0.{last}.weight"]) for stage in sorted(stages)
                ],
                layer_type="bottleneck" if last == "conv3" else "basic",
            )
        )
        model.load_state_dict(
            {_renamed(name): tensor for name, tensor in weights.items() if name[:3] != "fc."}
        )
    except (KeyError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise Unsupported(
            f"the weights are not those of a ResNet of torchvision: {reason}"
        ) from error
    return model.eval()


def _renamed(name: str) -> str:
    """Return transformers' name of a tensor of torchvision's ResNet."""
    name = re.sub(r"^conv1\.", "embedder.embedder.convolution.", name)
    name = re.sub(r"^bn1\.", "embedder.embedder.normalization.", name)
    found = re.match(r"layer(\d+)\.(\d+)\.(conv|bn|downsample\.)(\d)\.(.*)", name)
    if not found:
        return name
    stage, block, kind, number, rest = found.groups()
    layer = f"encoder.stages.{int(stage) - 1}.layers.{block}"
    if kind == "downsample.":
        part = "convolution" if number == "0" else "normalization"
        return f"{layer}.shortcut.{part}.{rest}"
    part = "convolution" if kind == "conv" else "normalization"
    return f"{layer}.layer.{int(number) - 1}.{part}.{rest}"


def _read(checkpoint: Checkpoint) -> Weights:
    """Read tensors by name; no code in the file is run."""
    location = checkpoint.source.location
    try:
        weights = torch.load(checkpoint.folder / FILE, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise Unsupported(
            f"{location} is no file of weights by torch.save: {str(error).partition(chr(10))[0]}"
        ) from error
    if not isinstance(weights, dict) or not all(
        isinstance(tensor, torch.Tensor) for tensor in weights.values()
    ):
        raise Unsupported(f"{location} holds no state dict: tensors by name")
    return {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in weights.items()
    }
