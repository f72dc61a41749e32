"""Regions of POSIX shared memory that clients of this machine registered.

They are read and written through their file, not mapped: a client that shrinks
its memory would end a process that has it mapped.
"""

import os
import re
import stat
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vecserve_server.errors import FeatureOff, InvalidItem, RegionExists, RegionNotFound
from vecserve_server.reasons import Reason
from vecserve_server.wording import quoted

# Where Linux keeps what shm_open makes.
_FOLDER = Path("/dev/shm")
# A name as shm_open takes it: one slash at most, in front.
_KEY = re.compile(r"/?([^/\0]{1,255})")
# Each region holds a file open.
_MAX_REGIONS = 1024


class Region:
    """A part of a shared memory object. Closed once nobody refers to it any more."""

    def __init__(self, file: int, key: str, offset: int, size: int) -> None:
        self.key = key
        self.offset = offset
        self.size = size
        self._file = file
        weakref.finalize(self, os.close, file)

    def read(self, part: "Part") -> bytes:
        """Return the bytes of a part. Raises InvalidItem if they are not there."""
        data = os.pread(self._file, part.size, self.offset + part.offset)
        if len(data) < part.size:
            raise InvalidItem(
                Reason.REGION_SHRUNK, f"{quoted(part.region)} has shrunk since it was registered"
            )
        return data

    def write(self, part: "Part", data: bytes) -> None:
        """Write `data` to the start of a part. Raises InvalidItem if it has no room."""
        if len(data) > part.size:
            raise InvalidItem(
                Reason.REGION_TOO_SMALL,
                f"an output has {len(data)} bytes, {part.size} of {quoted(part.region)} are "
                "given to it",
            )
        if os.fstat(self._file).st_size < self.offset + part.offset + len(data):
            raise InvalidItem(
                Reason.REGION_SHRUNK, f"{quoted(part.region)} has shrunk since it was registered"
            )
        os.pwrite(self._file, data, self.offset + part.offset)


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of a region, as a request names them."""

    region: str
    offset: int
    size: int


class Regions:
    """The registered regions, by name. A request may read `max_read_bytes` of them."""

    def __init__(self, max_read_bytes: int) -> None:
        self._max_read_bytes = max_read_bytes
        self._regions: dict[str, Region] = {}

    @staticmethod
    def supported() -> bool:
        """Whether this machine keeps shared memory where we look for it."""
        return _FOLDER.is_dir()

    def register(self, name: str, key: str, offset: int, size: int) -> None:
        """Register a region of the shared memory object `key`.

        Raises InvalidItem, RegionExists, RegionNotFound (no such object), FeatureOff.
        """
        if not self.supported():
            raise FeatureOff(Reason.NO_SHARED_MEMORY, f"the server's machine has no {_FOLDER}")
        if not name:
            raise InvalidItem(Reason.NO_NAME, "the region has no name: give it one")
        if name in self._regions:
            raise RegionExists(
                Reason.REGION_EXISTS,
                f"region {quoted(name)} is registered already: unregister it first",
            )
        if len(self._regions) >= _MAX_REGIONS:
            raise InvalidItem(
                Reason.TOO_MANY_REGIONS, f"{_MAX_REGIONS} regions are registered: unregister some"
            )
        if not size:
            raise InvalidItem(
                Reason.EMPTY_REGION, f"region {quoted(name)} has no bytes: give its byte_size"
            )
        file = _open(key)
        try:
            has = os.fstat(file).st_size
            if offset + size > has:
                raise InvalidItem(
                    Reason.OUT_OF_BOUNDS,
                    f"bytes {offset} to {offset + size} of {quoted(key)} are asked for, it has "
                    f"{has}",
                )
        except BaseException:
            os.close(file)
            raise
        self._regions[name] = Region(file, key, offset, size)

    def unregister(self, name: str) -> None:
        """Forget a region, or, without a name, all. Requests under way keep theirs."""
        if name:
            self._regions.pop(name, None)
        else:
            self._regions.clear()

    def all(self) -> dict[str, Region]:
        """Return the registered regions."""
        return dict(self._regions)

    def find(self, name: str) -> Region:
        """Return a region. Raises RegionNotFound."""
        if name not in self._regions:
            raise RegionNotFound(
                Reason.REGION_NOT_FOUND, f"no shared memory region {quoted(name)} is registered"
            )
        return self._regions[name]

    def refuse_large(self, parts: Sequence["Part"]) -> None:
        """Raise InvalidItem if the parts that a request names are together too large to read.

        What was never written takes no memory in a region, but does once it is read.
        """
        size = sum(part.size for part in parts)
        if size > self._max_read_bytes:
            raise InvalidItem(
                Reason.REGION_TOO_LARGE,
                f"the inputs take {size} bytes of shared memory, the server reads "
                f"{self._max_read_bytes} for a request: send less in each",
            )

    def find_part(self, part: Part) -> Region:
        """Return the region that holds a part. Raises RegionNotFound, InvalidItem."""
        region = self.find(part.region)
        if part.offset < 0 or part.size < 0 or part.offset + part.size > region.size:
            raise InvalidItem(
                Reason.OUT_OF_BOUNDS,
                f"bytes {part.offset} to {part.offset + part.size} of region "
                f"{quoted(part.region)} are "
                f"asked for, it has {region.size}",
            )
        return region


def _open(key: str) -> int:
    name = _KEY.fullmatch(key)
    if not name or name[1] in (".", ".."):
        raise InvalidItem(
            Reason.BAD_KEY, f"{quoted(key)} is no name of shared memory: one '/' at most, in front"
        )
    try:
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        file = os.open(_FOLDER / name[1], flags)
    except OSError as error:
        raise RegionNotFound(
            Reason.NO_SUCH_MEMORY, f"cannot open shared memory {quoted(key)}: {error.strerror}"
        ) from error
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise InvalidItem(Reason.BAD_KEY, f"{quoted(key)} is no shared memory")
    return file
