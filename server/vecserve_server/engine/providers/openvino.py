"""OpenVINO provider, computing in bfloat16 where the processor has it.

Settings: https://onnxruntime.ai/docs/execution-providers/OpenVINO-ExecutionProvider.html
"""

import json
from pathlib import Path

import onnxruntime as ort

from vecserve_server.engine.providers.base import load_on


def load(path: Path, *, cores: int, streams: int) -> ort.InferenceSession:
    """Load a graph that `streams` callers run at a time, on `cores` in all.

    Raises NoProvider, and what ONNX Runtime raises.
    """
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16",
        "INFERENCE_NUM_THREADS": str(cores),
        "NUM_STREAMS": str(streams),
    }
    config = {"device_type": "CPU", "load_config": json.dumps({"CPU": settings})}
    return load_on("openvino", path, config)
