"""(a) ONNX Runtime in this process, inputs and outputs bound on the device."""

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from benchmarks.gpu.model import Subject
from benchmarks.gpu.profile import Size
from benchmarks.gpu.timing import Timed, timed
from vecserve_export.plan import Feeds
from vecserve_export.verify import compare
from vecserve_server.engine.provider import load_on

Array = npt.NDArray[np.float32]

# Below it something is wrong; fp16 is held to much more when it is exported.
MIN_COSINE = 0.99


class Runtime:
    """A subject's graph, and the output that is measured."""

    def __init__(self, subject: Subject, size: Size) -> None:
        self._device = size.device
        self._session = load_on(size.provider, subject.graph, {})
        self._output = subject.tower.tower.outputs[subject.output].name

    def bind(self, feeds: Feeds) -> Any:
        """Return a binding with the inputs on the device."""
        binding = self._session.io_binding()
        for name, feed in feeds.items():
            value = ort.OrtValue.ortvalue_from_numpy(feed, self._device, 0)
            binding.bind_ortvalue_input(name, value)
        binding.bind_output(self._output, self._device)
        return binding

    def run(self, binding: Any) -> Array:
        """Run once and bring the vectors back, which waits for the device."""
        self._session.run_with_iobinding(binding)
        vectors: Array = binding.copy_outputs_to_cpu()[0]
        return vectors

    def worst_cosine(self, subject: Subject) -> float:
        """Return the smallest cosine to PyTorch's fp32, on the CPU, over the exporter's cases."""
        return min(
            compare(self.run(self.bind(case.feeds)), case.expected[subject.output]).min_cosine
            for case in subject.tower.cases
        )


def measure(runtime: Runtime, subject: Subject, size: Size) -> Timed:
    """Return the figures of the batch that does most rows a second."""
    found = []
    for rows in size.batches:
        binding = runtime.bind(subject.feeds(rows))
        found.append(timed(partial(runtime.run, binding), rows, size.seconds))
    return max(found, key=lambda one: one.items_per_s)
