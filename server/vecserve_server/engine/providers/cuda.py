"""CUDA provider: graphs on the first card that CUDA_VISIBLE_DEVICES shows.

https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html

Run on an H200 (ONNX Runtime 1.31, CUDA 13): ResNet-50 in fp16 is 1.29 times as fast
with channels last, and CLIP, whose one convolution is its first node, is not. Heuristic
choice of cuDNN's algorithms is as fast as the exhaustive one.
"""

import contextlib
import ctypes
import io
from functools import cache
from pathlib import Path

import onnxruntime as ort

from vecserve_server.engine.providers.base import NoProvider, is_built_in, load_on, operators_of

_DRIVER = "libcuda.so.1"
# ONNX Runtime's preload_dlls loads this one and says nothing where it cannot.
_CUDNN = "libcudnn.so.9"

# How many batches are on the way at a time: one is copied while the other computes.
BATCHES_IN_FLIGHT = 2
# How many times the rows and positions that a manifest bounds a batch with, for a processor's
# caches: as many keep a large card busy. Memory is not what bounds them.
BATCH_SCALE = 16

_SETTINGS = {
    # A search that runs every algorithm would be repeated for each new shape of a batch.
    "cudnn_conv_algo_search": "HEURISTIC",
    # FlashAttention, or the memory-efficient kernel where there is a mask. On a Hopper card
    # ONNX Runtime would prefer cuDNN's, which takes 50 ms to plan for each new shape.
    "sdpa_kernel": "3",
    # Not to the next power of two: the card is shared with other models.
    "arena_extend_strategy": "kSameAsRequested",
}
# TF32 rounds the inputs of float32 products to 10 bits. Who wants that has fp16, whose convolutions
# this would keep from the tensor cores.
_NO_TF32 = {"use_tf32": "0"}
_CHANNELS_LAST = {"prefer_nhwc": "1"}


def load(path: Path, *, fp16: bool) -> ort.InferenceSession:
    """Load a graph, in fp16 or not, on the first card.

    Raises NoProvider, and what ONNX Runtime raises.
    """
    if is_built_in("cuda") and (problem := missing()):
        raise NoProvider(problem)
    settings = _SETTINGS if fp16 else _SETTINGS | _NO_TF32
    session = load_on("cuda", path, settings)
    operators = operators_of(session)
    if operators["Conv"] > operators["MatMul"] + operators["Gemm"]:
        session = load_on("cuda", path, settings | _CHANNELS_LAST)
    return session


def has_convolutions(session: ort.InferenceSession) -> bool:
    """Whether a graph has convolutions, which ONNX Runtime plans anew when a batch has new shapes.

    It keeps the last plan only. With cuDNN 9 that costs CLIP 10 ms, and ResNet-50 0.2 s.
    """
    return operators_of(session)["Conv"] > 0


def batch_sizes(most: int) -> tuple[int, ...]:
    """Return the few sizes that batches of up to `most` rows are filled up to, in order."""
    return tuple(sorted({1, *(max(most // 4**step, 1) for step in range(3))}))


@cache
def missing() -> str:
    """Say what CUDA needs and this machine does not have, and what to do; "" if nothing.

    Loads CUDA's libraries, for a build of ONNX Runtime that has CUDA.
    """
    try:
        ctypes.CDLL(_DRIVER)
    except OSError as error:
        return (
            f"no NVIDIA driver ({error}): install the driver, or start the container with "
            "--gpus all"
        )
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        # Also finds those that pip installed. It prints "Failed to load NAME: why".
        ort.preload_dlls()
    problems = [line.partition(": ")[2] for line in said.getvalue().splitlines() if ": " in line]
    try:
        ctypes.CDLL(_CUDNN)
    except OSError as error:
        problems.append(str(error))
    if not problems:
        return ""
    return (
        f"libraries of CUDA cannot be loaded ({'; '.join(problems)}): install "
        "vecserve[server,gpu], which brings them, or name their folder in LD_LIBRARY_PATH"
    )
