"""One ONNX graph, ready to run."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from vecserve_server.repository.manifest import Tower

Array = npt.NDArray[np.generic]

_FEEDS_OF_KIND = {
    "text": {"input_ids": "tensor(int64)", "attention_mask": "tensor(int64)"},
    "image": {"pixels": "tensor(uint8)"},
    "audio": {"waveform": "tensor(float)", "lengths": "tensor(int64)"},
}


class GraphError(Exception):
    """The graph is not the one its manifest describes."""


class Session:
    """A graph in ONNX Runtime. `run` may be called from several threads at once.

    Each concurrent run uses `threads` cores: with 1, the calling thread only.
    """

    def __init__(self, path: Path, tower: Tower, *, threads: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Threads that spin while they wait take the cores from the other models
        # and from the event loop.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Patterns are kept per input shape; shapes vary with every batch.
        options.enable_mem_pattern = False
        options.log_severity_level = 3
        self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        inputs = {value.name: value.type for value in self._session.get_inputs()}
        expected = _FEEDS_OF_KIND[tower.input.kind]
        if inputs != expected:
            raise GraphError(f"{path} takes {inputs}, a {tower.input.kind} graph takes {expected}")
        outputs = {value.name for value in self._session.get_outputs()}
        if missing := sorted({output.name for output in tower.outputs} - outputs):
            raise GraphError(f"{path} has no output {', '.join(missing)}")

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Run one batch; arrays have the batch axis first. Raises what ONNX Runtime raises."""
        result: list[Array] = self._session.run(list(outputs), dict(feeds))
        return result
