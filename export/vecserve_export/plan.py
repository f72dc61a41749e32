"""Export plan: the graphs of a bundle, and the inputs and outputs to verify them by."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from vecserve_export.request import Precision
from vecserve_server.repository.manifest import Tower

Feeds = dict[str, npt.NDArray[np.generic]]
Axes = dict[str, dict[int, str]]


@dataclass(frozen=True, slots=True)
class Case:
    """One real input and the reference model's outputs for it.

    `feeds` has the graph's inputs by name, `expected` one array an output in
    the tower's order, computed by the unconverted PyTorch model.
    """

    name: str
    feeds: Feeds
    expected: tuple[npt.NDArray[np.float32], ...]


@dataclass(frozen=True, slots=True)
class TowerPlan:
    """One graph to make.

    `module` takes the inputs in the order of the cases' feeds and returns one
    tensor an output of `tower`. `axes` names the dynamic axes of every input
    and output. `fp32_modules` names the attributes of `module` that an fp16 graph
    computes in float32.
    """

    tower: Tower
    module: torch.nn.Module
    axes: Axes
    cases: tuple[Case, ...]
    fp32_modules: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GraphTowerPlan:
    """One graph that is an ONNX file already, copied byte for byte.

    Without a PyTorch model to compare it with, it is compared with itself:
    the rows of `feeds`, at least two, together, alone, and once more.
    """

    tower: Tower
    graph: Path
    precision: Precision
    feeds: Feeds


@dataclass(frozen=True, slots=True)
class Plan:
    """One bundle to make. `files` are written as they are, by name.

    Its towers are all to be traced, or all ONNX files. `license_files` are those of
    `files` that hold a licence's text.
    """

    description: str
    dimensions: int
    towers: tuple[TowerPlan, ...] | tuple[GraphTowerPlan, ...]
    files: dict[str, bytes] = field(default_factory=dict)
    license_files: tuple[str, ...] = ()
