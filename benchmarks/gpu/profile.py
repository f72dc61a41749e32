"""Measurement profiles: batch sizes, loads and durations of a card, and of a dry run on a CPU."""

from dataclasses import dataclass

import torch

from vecserve.bench.measure import Plan
from vecserve_server.repository.config import Provider


@dataclass(frozen=True, slots=True)
class Profile:
    """`device` is PyTorch's and ONNX Runtime's name of it, `dtype` what PyTorch
    computes in, `precision` that of the bundles.

    In process, `batches` are tried for `seconds` each. The server gets each of `items` a
    message on each of `streams`. `matrix` is a side of the matrices multiplied for the
    roofline, `copied` the bytes copied.
    """

    device: str
    provider: Provider
    dtype: torch.dtype
    precision: str
    batches: tuple[int, ...]
    seconds: float
    items: tuple[int, ...]
    streams: tuple[int, ...]
    plan: Plan
    matrix: int
    copied: int


CARD = Profile(
    device="cuda",
    provider="cuda",
    dtype=torch.float16,
    precision="fp16",
    batches=(1, 8, 16, 32, 64, 128, 256),
    seconds=2.0,
    items=(1, 8, 64),
    streams=(1, 16, 64),
    plan=Plan(rounds=3, seconds=3.0, lead_s=0.5, warmup_s=2.0),
    matrix=8192,
    copied=1 << 30,
)
DRY_RUN = Profile(
    device="cpu",
    provider="cpu",
    dtype=torch.bfloat16,
    precision="fp32",
    batches=(1, 2),
    seconds=0.05,
    items=(1, 2),
    streams=(1, 2),
    plan=Plan(rounds=1, seconds=0.3, lead_s=0.1, warmup_s=0.1),
    matrix=256,
    copied=1 << 22,
)
