"""Provider loading: graphs on what ONNX Runtime has beside its own cpu; where nodes landed.

https://onnxruntime.ai/docs/execution-providers/
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import onnxruntime as ort

from vecserve_server.repository.config import Provider

NAMES: dict[Provider, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
}
# Which of our extras brings the build of ONNX Runtime that has it.
_EXTRAS: dict[Provider, str] = {"cpu": "cpu", "cuda": "gpu", "openvino": "openvino"}
# Makes a session remember where its nodes went.
RECORD_NODES = ("session.record_ep_graph_assignment_info", "1")


class NoProvider(Exception):
    """A provider cannot be had here; the message says what is missing, and what to do."""


def is_built_in(provider: Provider) -> bool:
    """Whether this build of ONNX Runtime has a provider; it may still not load."""
    return NAMES[provider] in ort.get_available_providers()


def load_on(provider: Provider, path: Path, settings: Mapping[str, str]) -> ort.InferenceSession:
    """Load a graph on a provider; nodes that it does not know fall to the cpu.

    Raises NoProvider, and what ONNX Runtime raises.
    """
    if not is_built_in(provider):
        extra = _EXTRAS[provider]
        others = [name for name in _EXTRAS.values() if name != extra]
        raise NoProvider(
            f"{provider} comes with another build of ONNX Runtime: install "
            f"vecserve[server,{extra}] in an environment without the extras "
            f"{', '.join(others)} and export"
        )
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry(*RECORD_NODES)
    session = ort.InferenceSession(
        str(path),
        options,
        providers=[(NAMES[provider], dict(settings))],
        # Or it would go on, and compute, without a provider that fails.
        enable_fallback=0,
    )
    # It still goes on without one whose libraries it cannot load.
    if NAMES[provider] not in session.get_providers():
        raise NoProvider(f"{provider} cannot be loaded: see ONNX Runtime's messages above")
    return session


def nodes_by_provider(session: ort.InferenceSession) -> Counter[str]:
    """Count a session's nodes by the provider that runs them; it must have RECORD_NODES."""
    ours = {name: provider for provider, name in NAMES.items()}
    counts: Counter[str] = Counter()
    for part in session.get_provider_graph_assignment_info():
        counts[ours.get(part.ep_name, part.ep_name)] += len(part.get_nodes())
    return counts


def operators_of(session: ort.InferenceSession) -> Counter[str]:
    """Count the operators of a session's nodes, also inside others; it must have RECORD_NODES."""
    parts = session.get_provider_graph_assignment_info()
    return Counter(node.op_type for part in parts for node in part.get_nodes())
