"""Session pool that the peers share: the graph in one 1-thread session a core."""

import os
import queue

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

MODEL = "all-MiniLM-L6-v2"
INPUTS = ("input_ids", "attention_mask")
OUTPUT = "sentence_embedding"
CORES = os.cpu_count() or 1

Ids = npt.NDArray[np.int64]


class Sessions:
    """As many sessions as cores; a run takes one that is free, and waits for it."""

    def __init__(self, graph: str, count: int = CORES) -> None:
        self._free: queue.SimpleQueue[ort.InferenceSession] = queue.SimpleQueue()
        for _ in range(count):
            options = ort.SessionOptions()
            options.intra_op_num_threads = 1
            options.inter_op_num_threads = 1
            options.log_severity_level = 3
            self._free.put(ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"]))

    def run(self, input_ids: Ids, attention_mask: Ids) -> npt.NDArray[np.float32]:
        """Return float32 [batch, 384] for int64 [batch, tokens]."""
        session = self._free.get()
        try:
            feeds = {"input_ids": input_ids, "attention_mask": attention_mask}
            result: npt.NDArray[np.float32] = session.run([OUTPUT], feeds)[0]
            return result
        finally:
            self._free.put(session)
