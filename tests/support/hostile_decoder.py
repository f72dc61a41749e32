"""A server with a modality more, whose files do to the decoder whatever they say.

Run it as `vecserve-server` is run. A file is a text, a command and its arguments:

    number N           the vector [N]
    process            the vector [id of the decoder's process]
    spin               compute for ever, without a look at a signal
    hang FIFO          write the process' id to FIFO, then wait for ever
    crash              touch memory that is not there
    eat                take more memory than there is
    large MIB LOCK     say that decoding takes so much; fail if another holds LOCK
    hold FIFO LOCK     the same with 100 MiB, and wait for FIFO to be written before it ends
"""

import ctypes
import itertools
import os
import signal
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from vecserve_server.errors import InvalidItem
from vecserve_server.modalities.base import Fields, Modality
from vecserve_server.modalities.content import Content, Limits
from vecserve_server.modalities.registry import MODALITIES
from vecserve_server.modalities.rows import Prepared, Row
from vecserve_server.reasons import Reason
from vecserve_server.repository.manifest import Input

HELD_MIB = 100


class HostileInput(Input):
    """The graph takes `number`, float32 [batch, 1]."""

    kind: Literal["hostile"] = "hostile"


@dataclass(frozen=True, slots=True)
class Command(Content):
    """A file."""

    described = "a command"
    text: str


class HostileModality(Modality[HostileInput, Command]):
    """Does as it is told, and gives one row of `number`, float32 [1]."""

    fields: ClassVar[Fields] = {"text": Command}
    accepts = (Command,)
    decodes = True

    def __init__(self, spec: HostileInput, bundle_dir: Path, limits: Limits) -> None:
        pass

    @staticmethod
    def from_bytes(data: bytes) -> Command:
        """Return a command."""
        return Command(data.decode())

    def blank_row(self, positions: int) -> Row:
        """Return 0."""
        return _row(0)

    def probe_rows(self) -> list[Row]:
        """Return 1."""
        return [_row(1)]

    def decoded_bytes(self, content: Command) -> int:
        """Return what the command says."""
        match content.text.split():
            case ["large", mib, _]:
                return int(mib) << 20
            case ["hold", *_]:
                return HELD_MIB << 20
        return 0

    def prepare(self, content: Command, *, refuse_truncation: bool) -> Prepared:
        """Do it."""
        match content.text.split():
            case ["number", number]:
                return Prepared((_row(float(number)),))
            case ["process"]:
                return Prepared((_row(os.getpid()),))
            case ["spin"]:
                deque(itertools.repeat(None), maxlen=0)
            case ["hang", fifo]:
                Path(fifo).write_text(str(os.getpid()))
                signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
                signal.sigwait([signal.SIGUSR1])
            case ["crash"]:
                ctypes.string_at(0)
            case ["eat"]:
                bytearray(1 << 40)
            case ["large", _, lock]:
                _alone(Path(lock), "")
            case ["hold", fifo, lock]:
                _alone(Path(lock), fifo)
        return Prepared((_row(1),))


def _alone(lock: Path, fifo: str) -> None:
    """Wait for a line of `fifo`, if there is one; raise InvalidItem if `lock` is taken."""
    try:
        lock.touch(exist_ok=False)
    except FileExistsError as error:
        raise InvalidItem(Reason.UNKNOWN_VALUE, "two at once: send one") from error
    if fifo:
        Path(fifo).read_text()
    lock.unlink()


def _row(number: float) -> Row:
    return Row({"number": np.array([number], dtype=np.float32)})


MODALITIES[HostileInput] = HostileModality

if __name__ == "__main__":
    from vecserve_server.run import run

    run()
