"""CUDA provider. Not run on a card yet: what is tested is how it is refused without one.

https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html
"""

import contextlib
import ctypes
import io
from functools import cache
from pathlib import Path

import onnxruntime as ort

from vecserve_server.engine.providers.base import NoProvider, is_built_in, load_on

_DRIVER = "libcuda.so.1"
# ONNX Runtime's preload_dlls loads this one and says nothing where it cannot.
_CUDNN = "libcudnn.so.9"


def load(path: Path) -> ort.InferenceSession:
    """Load a graph on the first card.

    Raises NoProvider, and what ONNX Runtime raises.
    """
    if is_built_in("cuda") and (problem := missing()):
        raise NoProvider(problem)
    return load_on("cuda", path, {})


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
