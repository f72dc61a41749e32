"""Baseline (b): PyTorch in this process, the exporter's module compiled.

Weights of layers are in `dtype`, and torch.autocast computes in it; attention is PyTorch's
own fused one, not the plain one that is traced for ONNX.
"""

import copy
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedModel

from benchmarks.gpu.model import ModelUnderTest
from benchmarks.gpu.profile import Profile
from benchmarks.gpu.timing import Timing, time_calls

MATRICES = (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d)


def module_for(model: ModelUnderTest, profile: Profile) -> torch.nn.Module:
    """Return a copy of the model's module on the device, its layers' weights in `dtype`."""
    module = copy.deepcopy(model.tower.module).eval().to(profile.device)
    for part in module.modules():
        if isinstance(part, (*MATRICES, torch.nn.Embedding)):
            part.to(profile.dtype)
        if isinstance(part, PreTrainedModel) and part._supports_sdpa:
            part.set_attn_implementation("sdpa")
    return module


def runner(
    module: Callable[..., object], model: ModelUnderTest, rows: int, profile: Profile
) -> Callable[[], npt.NDArray[np.float32]]:
    """Return a call that runs a batch and brings the vectors back, which waits for the device."""
    inputs = [torch.from_numpy(feed).to(profile.device) for feed in model.feeds(rows).values()]

    def run() -> npt.NDArray[np.float32]:
        with torch.inference_mode(), torch.autocast(profile.device, profile.dtype):
            outputs = module(*inputs)
        wanted = outputs[model.output] if isinstance(outputs, tuple | list) else outputs
        assert isinstance(wanted, torch.Tensor)
        vectors: npt.NDArray[np.float32] = wanted.float().cpu().numpy()
        return vectors

    return run


def measure(module: torch.nn.Module, model: ModelUnderTest, rows: int, profile: Profile) -> Timing:
    """Return the figures of batches of `rows`, compiled for just that shape."""
    torch.compiler.reset()
    compiled = torch.compile(module, dynamic=False)
    return time_calls(runner(compiled, model, rows, profile), rows, profile.seconds)
