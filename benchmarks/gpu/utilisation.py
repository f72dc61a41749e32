"""GPU utilisation by NVML: the share of time in which any kernel ran."""

import threading
from statistics import fmean

_INTERVAL_S = 0.1


class Utilisation:
    """A context that samples the first card; `percent` afterwards, None without a card."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._samples: list[float] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self) -> "Utilisation":
        if self._device == "cuda":
            # nvidia-ml-py, which only benchmarks/gpu/install.sh installs.
            import pynvml

            pynvml.nvmlInit()
            self._nvml = pynvml
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._device == "cuda":
            self._thread.join()
            self._nvml.nvmlShutdown()

    @property
    def percent(self) -> float | None:
        """The mean of all samples."""
        return fmean(self._samples) if self._samples else None

    def _sample(self) -> None:
        card = self._nvml.nvmlDeviceGetHandleByIndex(0)
        while not self._ended.wait(_INTERVAL_S):
            self._samples.append(float(self._nvml.nvmlDeviceGetUtilizationRates(card).gpu))
