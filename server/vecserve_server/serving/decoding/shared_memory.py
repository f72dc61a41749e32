"""Shared memory without a name: made by one process, its descriptor passed to another.

Not `multiprocessing.shared_memory`: its blocks have names, which outlive a process that is
killed, and lie in /dev/shm, which containers bound at 64 MB.
"""

import ctypes
import fcntl
import mmap
import os
import weakref
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_MAP_FAILED = ctypes.c_void_p(-1).value


def write(size: int, placed: Iterable[tuple[int, npt.NDArray[np.generic]]]) -> int:
    """Return a descriptor of `size` bytes that hold arrays at their offsets."""
    descriptor = os.memfd_create("vecserve", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size)
    # A reader whose memory shrinks would be ended by SIGBUS.
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    with mmap.mmap(descriptor, size) as memory:
        for offset, array in placed:
            np.copyto(np.ndarray(array.shape, array.dtype, memory, offset), array)
    return descriptor


def mapped(descriptor: int, size: int) -> Any:
    """Return the memory of a descriptor as a buffer; it is freed with the buffer.

    The descriptor may be closed, unlike that of `mmap.mmap`, which keeps one for as long: a
    thousand waiting images would take as many. Raises ValueError if the memory is smaller, or
    could become so, and OSError.
    """
    sealed = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK
    if not sealed or not 0 < size <= os.fstat(descriptor).st_size:
        raise ValueError(f"no {size} bytes that stay")
    access = mmap.PROT_READ | mmap.PROT_WRITE
    address = _libc.mmap(None, size, access, mmap.MAP_SHARED, descriptor, 0)
    if address == _MAP_FAILED:
        raise OSError(ctypes.get_errno(), "cannot map shared memory")
    memory = (ctypes.c_ubyte * size).from_address(address)
    weakref.finalize(memory, _libc.munmap, address, size)
    return memory
