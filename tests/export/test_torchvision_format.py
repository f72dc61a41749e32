"""Files of torchvision's weights: its ResNets, and SSCD's.

The reference is a ResNet written here in torchvision's own names, run in PyTorch.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.export.conftest import Command
from tests.export.test_families import manifest_of, run_graph
from vecserve_server.repository.manifest import ImageInput, sha256_of

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


class Block(nn.Module):
    """A residual block: two 3 x 3 convolutions, or with `expansion` 4 a bottleneck of three."""

    def __init__(self, channels: int, width: int, stride: int, expansion: int) -> None:
        super().__init__()
        out = width * expansion
        shapes = (
            [(channels, width, 3, stride), (width, out, 3, 1)]
            if expansion == 1
            else [(channels, width, 1, 1), (width, width, 3, stride), (width, out, 1, 1)]
        )
        self.layers = len(shapes)
        for number, (before, after, size, step) in enumerate(shapes, start=1):
            conv = nn.Conv2d(before, after, size, step, padding=size // 2, bias=False)
            self.add_module(f"conv{number}", conv)
            self.add_module(f"bn{number}", nn.BatchNorm2d(after))
        self.downsample: nn.Module | None = None
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        for number in range(1, self.layers + 1):
            y = self.get_submodule(f"bn{number}")(self.get_submodule(f"conv{number}")(y))
            if number < self.layers:
                y = y.relu()
        return (y + (x if self.downsample is None else self.downsample(x))).relu()


class ResNet(nn.Module):
    """torchvision.models.ResNet, small."""

    def __init__(self, expansion: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        channels = 8
        for stage, (width, blocks) in enumerate([(8, 2), (16, 1), (16, 2)], start=1):
            layers = []
            for block in range(blocks):
                stride = 2 if stage > 1 and block == 0 else 1
                layers.append(Block(channels, width, stride, expansion))
                channels = width * expansion
            self.add_module(f"layer{stage}", nn.Sequential(*layers))
        self.fc = nn.Linear(channels, classes)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.max_pool2d(self.bn1(self.conv1(x)).relu(), 3, 2, padding=1)
        for stage in (1, 2, 3):
            x = self.get_submodule(f"layer{stage}")(x)
        return x


class Sscd(nn.Module):
    """Meta's Model with a backbone of torchvision."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = ResNet(4, 24)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.backbone.features(x).flatten(2)
        pooled = features.clamp(min=1e-6).pow(3).mean(2).pow(1 / 3)
        return nn.functional.normalize(self.backbone.fc(pooled))


def trained(model: nn.Module) -> nn.Module:
    """Give batch norms other numbers than the neutral ones, which would hide their loss."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.bias):
                assert tensor is not None
                nn.init.normal_(tensor, std=0.1)
            assert module.running_var is not None
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return model.eval()


def values(pixels: "np.ndarray[Any, np.dtype[np.uint8]]") -> torch.Tensor:
    return torch.from_numpy(((pixels / 255 - MEAN) / STD).transpose(0, 3, 1, 2)).float()


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(5)


@pytest.mark.parametrize("expansion", [1, 4])
def test_a_resnet_without_its_classifier(
    expansion: int, command: Command, repository: Path, tmp_path: Path
) -> None:
    model = trained(ResNet(expansion, 10))
    assert isinstance(model, ResNet)
    file = tmp_path / "resnet.pth"
    torch.save(model.state_dict(), file)
    result = command("my-resnet", "--source", file)
    assert result.exit_code == 0, result.output
    bundle = repository / "my-resnet" / "1"
    manifest = manifest_of(bundle)
    assert (manifest.source.location, manifest.source.revision) == (str(file), sha256_of(file))
    assert (manifest.license, manifest.dimensions) == ("unknown", 16 * expansion)
    assert manifest.towers[0].input == ImageInput(
        resize_shortest_edge=256,
        resample="bilinear",
        crop_height=224,
        crop_width=224,
        crop_rounding="half_even",
    )
    pixels = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    with torch.inference_mode():
        expected = model.features(values(pixels)).mean((2, 3)).numpy()
    outputs = run_graph(bundle / "image.onnx", {"pixels": pixels})
    np.testing.assert_allclose(outputs["pooled"], expected, atol=1e-4 * np.abs(expected).max())


def test_sscd(command: Command, repository: Path, tmp_path: Path) -> None:
    model = trained(Sscd())
    file = tmp_path / "sscd_disc_mixup.torchvision.pt"
    torch.save(model.state_dict(), file)
    result = command("sscd-resnet50", "--source", file)
    assert result.exit_code == 0, result.output
    bundle = repository / "sscd-resnet50" / "1"
    manifest = manifest_of(bundle)
    (tower,) = manifest.towers
    assert isinstance(tower.input, ImageInput)
    assert (tower.input.resize_height, tower.input.resize_width) == (320, 320)
    assert [(output.name, output.normalized) for output in tower.outputs] == [("embedding", True)]
    assert (manifest.dimensions, manifest.precision) == (24, "fp32")
    assert manifest.parity.reference == "pytorch"
    pixels = np.random.default_rng(0).integers(0, 256, (2, 320, 320, 3), dtype=np.uint8)
    with torch.inference_mode():
        expected = model(values(pixels)).numpy()
    outputs = run_graph(bundle / "image.onnx", {"pixels": pixels})
    np.testing.assert_allclose(outputs["embedding"], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"weight": torch.zeros(3)}, "not those of a ResNet of torchvision"),
        ({"state": {"conv1.weight": torch.zeros(3)}}, "holds no state dict"),
        (torch.nn.Linear(2, 2), "no file of weights by torch.save"),
    ],
)
def test_other_files_are_refused(
    content: object, said: str, command: Command, repository: Path, tmp_path: Path
) -> None:
    torch.save(content, tmp_path / "file.pth")
    result = command("my-resnet", "--source", tmp_path / "file.pth")
    assert result.exit_code == 1
    assert said in result.stderr
    assert not repository.exists()


def test_a_file_that_is_no_checkpoint(command: Command, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("These are words.")
    result = command("my-resnet", "--source", tmp_path / "notes.txt")
    assert result.exit_code == 1
    assert "no file of weights by torch.save" in result.stderr


def test_a_wide_resnet_is_refused(command: Command, tmp_path: Path) -> None:
    weights = ResNet(4, 10).state_dict()
    wide = weights["layer1.0.conv2.weight"]
    weights["layer1.0.conv2.weight"] = torch.cat([wide, wide])
    torch.save(weights, tmp_path / "wide.pth")
    result = command("my-resnet", "--source", tmp_path / "wide.pth")
    assert result.exit_code == 1
    assert "not those of a ResNet of torchvision" in result.stderr
