"""(b) PyTorch in this process: the exporter's unconverted module, compiled.

Weights of layers are in `dtype`, and torch.autocast computes in it; attention is PyTorch's
own fused one, not the plain one that is traced for ONNX.
"""

import copy
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedModel

from benchmarks.gpu.model import Subject
from benchmarks.gpu.profile import Size
from benchmarks.gpu.timing import Timed, timed

MATRICES = (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d)


def module_for(subject: Subject, size: Size) -> torch.nn.Module:
    """Return a copy of the subject's module on the device, its layers' weights in `dtype`."""
    module = copy.deepcopy(subject.tower.module).eval().to(size.device)
    for part in module.modules():
        if isinstance(part, (*MATRICES, torch.nn.Embedding)):
            part.to(size.dtype)
        if isinstance(part, PreTrainedModel) and part._supports_sdpa:
            part.set_attn_implementation("sdpa")
    return module


def runner(
    module: Callable[..., object], subject: Subject, rows: int, size: Size
) -> Callable[[], npt.NDArray[np.float32]]:
    """Return a call that runs a batch and brings the vectors back, which waits for the device."""
    inputs = [torch.from_numpy(feed).to(size.device) for feed in subject.feeds(rows).values()]

    def run() -> npt.NDArray[np.float32]:
        with torch.inference_mode(), torch.autocast(size.device, size.dtype):
            outputs = module(*inputs)
        wanted = outputs[subject.output] if isinstance(outputs, tuple | list) else outputs
        assert isinstance(wanted, torch.Tensor)
        vectors: npt.NDArray[np.float32] = wanted.float().cpu().numpy()
        return vectors

    return run


def measure(module: torch.nn.Module, subject: Subject, rows: int, size: Size) -> Timed:
    """Return the figures of batches of `rows`, compiled for just that shape."""
    torch.compiler.reset()
    compiled = torch.compile(module, dynamic=False)
    return timed(runner(compiled, subject, rows, size), rows, size.seconds)
