"""Roofline: the device's measured peak rates, and the throughput that they bound a model to."""

import copy
from dataclasses import dataclass
from typing import Literal

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu.model import ModelUnderTest
from benchmarks.gpu.profile import Profile
from benchmarks.gpu.timing import time_calls
from benchmarks.gpu.torch_compiled import MATRICES


@dataclass(frozen=True, slots=True)
class PeakRates:
    """Rates measured with a big matrix product (operations) and a big copy (bytes)."""

    flops_per_s: float
    bytes_per_s: float


@dataclass(frozen=True, slots=True)
class Roofline:
    """Throughput of batches at the peak rates: the slower of `flops` and `bytes` a batch."""

    items_per_s: float
    bound: Literal["FLOPs", "bytes"]
    flops: int
    bytes: int


def peak_rates(profile: Profile) -> PeakRates:
    """Measure the product of two square matrices of `dtype`, and a copy in device memory."""
    side = profile.matrix
    one, two = (
        torch.randn(side, side, device=profile.device, dtype=profile.dtype) for _ in range(2)
    )
    source = torch.ones(profile.copied, device=profile.device, dtype=torch.uint8)
    target = torch.empty_like(source)
    # Reading one number of the result waits for the device.
    product = time_calls(lambda: torch.matmul(one, two)[0, 0].item(), 1, profile.seconds)
    copy = time_calls(lambda: target.copy_(source)[0].item(), 1, profile.seconds)
    # A product is side^3 multiplications and additions; a copy reads and writes.
    return PeakRates(2 * side**3 * product.items_per_s, 2 * profile.copied * copy.items_per_s)


def roofline(model: ModelUnderTest, rows: int, profile: Profile, peak: PeakRates) -> Roofline:
    """Return the bound for batches of `rows`: FLOPs by PyTorch's count; weights, inputs read once.

    Embedding tables do not count: only a few of their rows are read.
    """
    # On PyTorch's meta device, which computes nothing, with the unfused attention that is traced
    # for ONNX: the products inside a fused one are not counted on every device.
    module = copy.deepcopy(model.tower.module).to("meta")
    feeds = model.feeds(rows)
    used: set[torch.nn.Module] = set()
    for part in module.modules():
        if isinstance(part, MATRICES):
            part.register_forward_hook(lambda own, *_: used.add(own))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*(torch.from_numpy(feed).to("meta") for feed in feeds.values()))
    weights = sum(own.numel() for part in used for own in part.parameters(recurse=False))
    flops = counter.get_total_flops()
    read = weights * profile.dtype.itemsize + sum(feed.nbytes for feed in feeds.values())
    flops_s, bytes_s = flops / peak.flops_per_s, read / peak.bytes_per_s
    return Roofline(
        items_per_s=rows / max(flops_s, bytes_s),
        bound="FLOPs" if flops_s >= bytes_s else "bytes",
        flops=flops,
        bytes=read,
    )
