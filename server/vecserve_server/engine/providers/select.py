"""Default provider: the best that the installed build of ONNX Runtime has."""

import logging
from functools import cache

from vecserve_server.engine.providers import cuda
from vecserve_server.engine.providers.base import is_built_in
from vecserve_server.repository.config import Provider

_log = logging.getLogger(__name__)


@cache
def best_provider() -> Provider:
    """Return the best provider of this build of ONNX Runtime that can be had here.

    Warns, once, if a better one cannot. A graph may still not load on it, or compute
    something else there.
    """
    if is_built_in("cuda"):
        problem = cuda.missing()
        if not problem:
            return "cuda"
        _log.warning("models run on the cpu, although this ONNX Runtime has CUDA: %s", problem)
    return "openvino" if is_built_in("openvino") else "cpu"
