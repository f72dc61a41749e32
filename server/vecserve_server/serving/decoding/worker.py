"""Decode worker: a process that prepares one item after the other, within bounds.

Bounded by the kernel: address space (RLIMIT_AS), and the CPU time of each item
(RLIMIT_CPU), which ends the process whatever its code does.
"""

import ctypes
import math
import os
import pickle
import resource
import signal
import socket
import struct
import time
import traceback
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from vecserve_server.errors import InvalidItem
from vecserve_server.malloc import return_large_blocks
from vecserve_server.modalities.base import Modality
from vecserve_server.serving.decoding.messages import Reply, Task, place
from vecserve_server.serving.decoding.shared_memory import write

LENGTH = struct.Struct("<I")
"""What stands before a reply: its length in bytes."""

# prctl's option by which a process ends with its parent (linux/prctl.h).
_PR_SET_PDEATHSIG = 1


def work(connection: socket.socket, memory_bytes: int, max_cpu_s: float) -> None:
    """Answer tasks until the other end closes. The whole life of a worker process."""
    _confine(connection.fileno(), memory_bytes)
    # The server may end at any time.
    with connection, connection.makefile("rb") as tasks, suppress(EOFError, ConnectionError):
        while True:
            # Not named here: an idle worker would keep the file.
            _answer(connection, pickle.load(tasks), max_cpu_s)


def _confine(kept: int, memory_bytes: int) -> None:
    # All other descriptors: the fork server ends when nobody has the other end of its pipe, and
    # a worker, which has it from birth, is to end then, too.
    os.closerange(3, kept)
    os.closerange(kept + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    return_large_blocks()
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + memory_bytes,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _answer(connection: socket.socket, task: Task, max_cpu_s: float) -> None:
    limit_s = math.ceil(time.process_time() + max_cpu_s)
    resource.setrlimit(resource.RLIMIT_CPU, (limit_s, resource.RLIM_INFINITY))
    descriptors: list[int] = []
    try:
        reply = _prepare(task, descriptors)
    except InvalidItem as error:
        reply = Reply(refusal=(error.reason, error.message))
    except MemoryError:
        reply = Reply(out_of_memory=True)
    except Exception:
        reply = Reply(failure=traceback.format_exc())
    text = reply.model_dump_json(exclude_defaults=True).encode()
    message = LENGTH.pack(len(text)) + text
    sent = socket.send_fds(connection, [message], descriptors)
    connection.sendall(message[sent:])
    for descriptor in descriptors:
        os.close(descriptor)


def _prepare(task: Task, descriptors: list[int]) -> Reply:
    """Prepare an item; add to `descriptors` the shared memory that holds its arrays."""
    modality = _modality(task.modality)
    needs_bytes = modality.decoded_bytes(task.content)
    if needs_bytes > task.memory_bytes:
        return Reply(needs_bytes=needs_bytes)
    prepared = modality.prepare(task.content, refuse_truncation=task.refuse_truncation)
    record, placed = place(prepared)
    descriptors.append(write(record.size, placed))
    return Reply(prepared=record)


@lru_cache(maxsize=64)
def _modality(pickled: bytes) -> Modality[Any, Any]:
    modality: Modality[Any, Any] = pickle.loads(pickled)
    return modality
