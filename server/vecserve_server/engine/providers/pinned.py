"""Page-locked host memory: what a card reads by itself, while the processor does something else."""

import ctypes
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

Array = npt.NDArray[np.generic]
ArraySpec = tuple[tuple[int, ...], np.dtype[np.generic]]

_ALIGNMENT = 64


class PinnedBuffers:
    """Page-locked memory for the inputs of batches, each batch with a buffer of its own.

    A buffer is used again by later batches, and grows with the largest of them.
    """

    def __init__(self) -> None:
        self._runtime = ctypes.CDLL(f"libcudart.so.{ort.cuda_version.partition('.')[0]}")
        self._lock = threading.Lock()
        self._idle: list[_Buffer] = []

    @contextmanager
    def arrays(self, wanted: Mapping[str, ArraySpec]) -> Iterator[dict[str, Array]]:
        """Lend uninitialised arrays of the shapes and types wanted, by name.

        Raises MemoryError if there is no such memory left.
        """
        sizes = {
            name: -(-int(np.prod(shape)) * dtype.itemsize // _ALIGNMENT) * _ALIGNMENT
            for name, (shape, dtype) in wanted.items()
        }
        with self._lock:
            buffer = self._idle.pop() if self._idle else _Buffer(self._runtime)
        try:
            memory = buffer.of(sum(sizes.values()))
            arrays: dict[str, Array] = {}
            start = 0
            for name, (shape, dtype) in wanted.items():
                arrays[name] = np.ndarray(shape, dtype, memoryview(memory), start)
                start += sizes[name]
            yield arrays
        finally:
            with self._lock:
                self._idle.append(buffer)


class _Buffer:
    """One allocation, freed with this object."""

    def __init__(self, runtime: ctypes.CDLL) -> None:
        self._runtime = runtime
        self._address = ctypes.c_void_p()
        self._size = 0

    def of(self, size: int) -> "ctypes.Array[ctypes.c_char]":
        """Return the memory, at least `size` bytes of it. Raises MemoryError."""
        if size > self._size:
            self._free()
            # A half more, or a batch that grows by a row each time would allocate each time.
            size += size // 2
            error = self._runtime.cudaHostAlloc(
                ctypes.byref(self._address), ctypes.c_size_t(size), 0
            )
            if error:
                raise MemoryError(f"no {size} bytes of page-locked memory (CUDA error {error})")
            self._size = size
        assert self._address.value
        return (ctypes.c_char * self._size).from_address(self._address.value)

    def _free(self) -> None:
        if self._size:
            self._runtime.cudaFreeHost(self._address)
            self._size = 0

    def __del__(self) -> None:
        self._free()
