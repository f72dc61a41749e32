"""Baseline (a): ONNX Runtime in this process, inputs and outputs bound on the device."""

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from benchmarks.gpu.model import ModelUnderTest
from benchmarks.gpu.profile import Profile
from benchmarks.gpu.timing import Timing, time_calls
from vecserve_export.plan import Feeds
from vecserve_export.verify import compare
from vecserve_server.engine.providers.base import load_on

Array = npt.NDArray[np.float32]

# Below it something is wrong; fp16 is held to much more when it is exported.
MIN_COSINE = 0.99


class Runtime:
    """A session of a model's graph, and the output that is measured."""

    def __init__(self, model: ModelUnderTest, profile: Profile) -> None:
        self._device = profile.device
        self._session = load_on(profile.provider, model.graph, {})
        self._output = model.tower.tower.outputs[model.output].name

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

    def worst_cosine(self, model: ModelUnderTest) -> float:
        """Return the smallest cosine to PyTorch's fp32, on the CPU, over the exporter's cases."""
        return min(
            compare(self.run(self.bind(case.feeds)), case.expected[model.output]).min_cosine
            for case in model.tower.cases
        )


def measure(runtime: Runtime, model: ModelUnderTest, profile: Profile) -> Timing:
    """Return the figures of the batch size with the most rows a second."""
    found = []
    for rows in profile.batches:
        binding = runtime.bind(model.feeds(rows))
        found.append(time_calls(partial(runtime.run, binding), rows, profile.seconds))
    return max(found, key=lambda one: one.items_per_s)
