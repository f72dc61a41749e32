"""What the device does at best, and therefore the most that a model could do on it."""

import copy
from dataclasses import dataclass
from typing import Literal

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu.model import Subject
from benchmarks.gpu.profile import Size
from benchmarks.gpu.timing import timed
from benchmarks.gpu.torch_compiled import MATRICES


@dataclass(frozen=True, slots=True)
class Rates:
    """Measured: floating point operations of a big matrix product, bytes of a big copy."""

    flops_per_s: float
    bytes_per_s: float


@dataclass(frozen=True, slots=True)
class Limit:
    """Batches of `rows` at those rates, if nothing else took time: the slower of the two."""

    items_per_s: float
    bound: Literal["FLOPs", "bytes"]
    flops: int
    bytes: int


def rates(size: Size) -> Rates:
    """Multiply two square matrices of `dtype`, and copy within the device's memory."""
    side = size.matrix
    one, two = (torch.randn(side, side, device=size.device, dtype=size.dtype) for _ in range(2))
    source = torch.ones(size.copied, device=size.device, dtype=torch.uint8)
    target = torch.empty_like(source)
    # Reading one number of the result waits for the device.
    product = timed(lambda: torch.matmul(one, two)[0, 0].item(), 1, size.seconds)
    copy = timed(lambda: target.copy_(source)[0].item(), 1, size.seconds)
    # A product is side^3 multiplications and additions; a copy reads and writes.
    return Rates(2 * side**3 * product.items_per_s, 2 * size.copied * copy.items_per_s)


def limit(subject: Subject, rows: int, size: Size, at_best: Rates) -> Limit:
    """Count what a batch needs: PyTorch's own count of FLOPs; weights and inputs, read once.

    Of embeddings only a few rows are read: they count as nothing.
    """
    # On the device that computes nothing, with the plain attention that is traced for ONNX:
    # the products inside a fused one are not counted on every device.
    module = copy.deepcopy(subject.tower.module).to("meta")
    feeds = subject.feeds(rows)
    used: set[torch.nn.Module] = set()
    for part in module.modules():
        if isinstance(part, MATRICES):
            part.register_forward_hook(lambda own, *_: used.add(own))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*(torch.from_numpy(feed).to("meta") for feed in feeds.values()))
    weights = sum(own.numel() for part in used for own in part.parameters(recurse=False))
    flops = counter.get_total_flops()
    read = weights * size.dtype.itemsize + sum(feed.nbytes for feed in feeds.values())
    flops_s, bytes_s = flops / at_best.flops_per_s, read / at_best.bytes_per_s
    return Limit(
        items_per_s=rows / max(flops_s, bytes_s),
        bound="FLOPs" if flops_s >= bytes_s else "bytes",
        flops=flops,
        bytes=read,
    )
