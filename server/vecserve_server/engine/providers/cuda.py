"""CUDA provider: graphs on the first card that CUDA_VISIBLE_DEVICES shows.

https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html

Run on an H200 (ONNX Runtime 1.31, CUDA 13): ResNet-50 in fp16 is 1.29 times as fast
with channels last, and CLIP, whose one convolution is its first node, is not. Heuristic
choice of cuDNN's algorithms is as fast as the exhaustive one.
"""

import contextlib
import ctypes
import io
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import onnxruntime as ort

from vecserve_server.engine.providers.base import NoProvider, is_built_in, load_on

_DRIVER = "libcuda.so.1"
# ONNX Runtime's preload_dlls loads this one and says nothing where it cannot.
_CUDNN = "libcudnn.so.9"

# How many batches are on the way at a time: one is copied while the other computes.
BATCHES_IN_FLIGHT = 2
# How many times the rows and positions that a manifest bounds a batch with, for a processor's
# caches: as many keep a large card busy. Memory is not what bounds them.
BATCH_SCALE = 16

_SMALL_BATCH = 8

_SETTINGS = {
    # A search that runs every algorithm would be repeated for each new shape of a batch.
    "cudnn_conv_algo_search": "HEURISTIC",
    # Rounds the inputs of float32 products to 10 bits. Who wants that has fp16.
    "use_tf32": "0",
    # Not to the next power of two: the card is shared with other models.
    "arena_extend_strategy": "kSameAsRequested",
}
_CHANNELS_LAST = {"prefer_nhwc": "1"}


def load(path: Path) -> ort.InferenceSession:
    """Load a graph on the first card.

    Raises NoProvider, and what ONNX Runtime raises.
    """
    if is_built_in("cuda") and (problem := missing()):
        raise NoProvider(problem)
    session = load_on("cuda", path, _SETTINGS)
    if _is_convolutional(session):
        session = load_on("cuda", path, _SETTINGS | _CHANNELS_LAST)
    return session


def plans_for_shapes(session: ort.InferenceSession) -> bool:
    """Whether each new shape of a batch costs the graph a plan: 0.06 to 0.7 s, with convolutions.

    Such a graph is best run with few numbers of rows: see `full_batch`.
    """
    return _operators(session)["Conv"] > 0


def full_batch(rows: int) -> int:
    """Return the next of the numbers of rows 1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, ...

    At most three in eight rows are filled up.
    """
    if rows <= _SMALL_BATCH:
        return 1 << (rows - 1).bit_length()
    step = 1 << ((rows - 1).bit_length() - 2)
    return -(-rows // step) * step


def full_batches(most: int) -> Iterator[int]:
    """Yield the numbers of rows that batches of up to `most` are filled up to."""
    rows = 1
    while rows <= most:
        yield rows
        rows = full_batch(rows + 1)


def _is_convolutional(session: ort.InferenceSession) -> bool:
    """Whether a graph has more convolutions than matrix products."""
    operators = _operators(session)
    return operators["Conv"] > operators["MatMul"] + operators["Gemm"]


def _operators(session: ort.InferenceSession) -> Counter[str]:
    return Counter(
        node.op_type
        for part in session.get_provider_graph_assignment_info()
        for node in part.get_nodes()
    )


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
