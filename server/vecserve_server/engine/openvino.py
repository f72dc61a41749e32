"""OpenVINO, computing in bfloat16 where the processor has it.

Settings: https://onnxruntime.ai/docs/execution-providers/OpenVINO-ExecutionProvider.html
"""

import json
from pathlib import Path

import onnxruntime as ort

_PROVIDER = "OpenVINOExecutionProvider"


class NoOpenVINO(Exception):
    """This ONNX Runtime cannot run OpenVINO; the message says what to install."""


def load(path: Path, *, cores: int, streams: int) -> ort.InferenceSession:
    """Load a graph that `streams` callers run at a time, on `cores` in all.

    Raises NoOpenVINO, and what ONNX Runtime raises.
    """
    if _PROVIDER not in ort.get_available_providers():
        raise NoOpenVINO(
            "OpenVINO comes with another build of ONNX Runtime: install "
            "vecserve[server,openvino] in an environment without the extras cpu and gpu"
        )
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16",
        "INFERENCE_NUM_THREADS": str(cores),
        "NUM_STREAMS": str(streams),
    }
    options = ort.SessionOptions()
    options.log_severity_level = 3
    provider = (_PROVIDER, {"device_type": "CPU", "load_config": json.dumps({"CPU": settings})})
    session = ort.InferenceSession(str(path), options, providers=[provider])
    if _PROVIDER not in session.get_providers():
        # ONNX Runtime goes on without a provider that cannot be had.
        raise NoOpenVINO("OpenVINO cannot be loaded: see ONNX Runtime's messages above")
    return session
