"""Errors of the serving path, in one tree.

    ServingError
    ├── InvalidItem         the caller's input or options: change it
    ├── DuplicateItem       an item id that is still unanswered
    ├── ModelNotFound       no such model or version
    ├── ModelNotReady       it is still being loaded, or was unloaded: come back later
    ├── RegionNotFound      no such region of shared memory
    ├── RegionExists        another region has this name
    ├── LoadFailed          the model on disk cannot be served
    ├── FeatureOff          a feature of the protocol that is off here
    ├── QueueFull           too much waits for this model: come back later
    ├── TooManyCalls        as many calls are open as may be: come back later
    ├── DeadlineMissed      it cannot be answered in time: allow more, or send less
    ├── ShuttingDown        this server stops: go elsewhere
    └── ComputeFailed       the model failed on this item: our fault

`api.rpc.status` maps each to its google.rpc code; nothing else knows codes.
"""

from vecserve_server.reasons import Reason
from vecserve_server.wording import cut

# Of UTF-8. In a response's trailers it comes twice: percent-encoded, three times as long at
# most, and in base64. Both are to stay below 4 KiB: gRPC refuses metadata of more than 8, and its
# caller would be told of that instead.
MESSAGE_BYTES = 880


class StartError(Exception):
    """The server cannot start; the message says why and what to do."""


class ServingError(Exception):
    """A request, or one item of it, cannot be answered with vectors.

    `reason` is a constant for programs, the message one
    sentence for a person: what is wrong, and what to do.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        self.reason = reason
        self.message = cut(message, MESSAGE_BYTES)
        super().__init__(self.message)


class InvalidItem(ServingError):
    """The input or the options cannot be served as they are."""


class DuplicateItem(ServingError):
    """Another item with this id is not answered yet."""


class ModelNotFound(ServingError):
    """No such model or version is served."""


class ModelNotReady(ServingError):
    """The model is still being read, checked or warmed up, or was unloaded."""


class RegionNotFound(ServingError):
    """No region of shared memory of that name is registered."""


class RegionExists(ServingError):
    """A region of shared memory of that name is registered already."""


class LoadFailed(ServingError):
    """What lies in the repository cannot be served; what was served before still is."""


class FeatureOff(ServingError):
    """The protocol has this, and this server has it switched off."""


class QueueFull(ServingError):
    """The model has as much waiting as it may have."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(Reason.QUEUE_FULL, message)
        self.retry_after_s = retry_after_s


class TooManyCalls(ServingError):
    """The server has as many calls open as it may have."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(Reason.TOO_MANY_CALLS, message)
        self.retry_after_s = retry_after_s


class DeadlineMissed(ServingError):
    """The item would be answered after its deadline, so it was not computed."""


class ShuttingDown(ServingError):
    """The server accepts nothing more."""


class ComputeFailed(ServingError):
    """The model failed on this item, run alone."""


def drop_tracebacks(error: BaseException) -> None:
    """Take the traceback from an error and from those it came from.

    A traceback holds frames and these their variables: a graph that was half loaded, or a
    request. In a circle, as tasks and their errors are, only the garbage collector, which
    counts objects and not their size, would free them.
    """
    link: BaseException | None = error
    while link:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
