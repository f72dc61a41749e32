"""Inputs of a request: where their elements are, and how they are read once they are wanted."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vecserve_server.api.oip.parameters import shared_part
from vecserve_server.api.oip.shared_memory import Part, Region, Regions
from vecserve_server.api.oip.stubs import grpc_service_pb2 as pb
from vecserve_server.api.oip.tensors import check_size, from_contents, from_raw, header_of
from vecserve_server.engine.tensors import BYTES
from vecserve_server.errors import InvalidItem
from vecserve_server.reasons import Reason
from vecserve_server.serving.request import Tensor, TensorHeader
from vecserve_server.wording import quoted

# Each is an object: so many take 20 ms.
_MAX_STRINGS = 64 * 1024
# What the event loop reads itself, in about 0.2 ms; so many bytes of shared memory also writes.
_QUICK_ELEMENTS = 2048
QUICK_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Source:
    """An input, and where its elements are: in shared memory, raw bytes, or its `contents`."""

    tensor: pb.ModelInferRequest.InferInputTensor
    header: TensorHeader
    shared: tuple[Part, Region] | None
    raw: bytes | None


def sources_of(request: pb.ModelInferRequest, regions: Regions) -> list[Source]:
    """Return a request's inputs, unread. Raises InvalidItem, RegionNotFound."""
    parts = [shared_part(tensor.parameters) for tensor in request.inputs]
    in_messages = parts.count(None)
    has_raw = len(request.raw_input_contents) > 0
    if has_raw and len(request.raw_input_contents) != in_messages:
        raise InvalidItem(
            Reason.SIZE_MISMATCH,
            f"{in_messages} inputs are not in shared memory, raw_input_contents has "
            f"{len(request.raw_input_contents)} entries: send one for each",
        )
    raw = iter(request.raw_input_contents)
    names: set[str] = set()
    sources = []
    for tensor, part in zip(request.inputs, parts, strict=True):
        if tensor.name in names:
            raise InvalidItem(Reason.DUPLICATE_INPUT, f"input {quoted(tensor.name)} is there twice")
        names.add(tensor.name)
        data = next(raw) if has_raw and not part else None
        if data is not None and tensor.HasField("contents"):
            raise InvalidItem(
                Reason.TWO_CONTENTS,
                f"input {quoted(tensor.name)} has contents beside raw_input_contents: send one "
                "of them",
            )
        shared = (part, regions.find_part(part)) if part else None
        sources.append(Source(tensor, header_of(tensor), shared, data))
    return sources


def takes_long(sources: Sequence[Source]) -> bool:
    """Whether elements are read one by one, and many, or many bytes of shared memory."""
    one_by_one = 0
    for source in sources:
        if source.shared and source.shared[0].size > QUICK_BYTES:
            return True
        if source.raw is None or source.header.datatype is BYTES:
            one_by_one += math.prod(source.header.shape)
    return one_by_one > _QUICK_ELEMENTS


def read_all(sources: Sequence[Source]) -> dict[str, Tensor]:
    """Return the inputs by name, with their elements. Raises InvalidItem."""
    inputs: dict[str, Tensor] = {}
    strings = 0
    for source in sources:
        name, header, raw = source.tensor.name, source.header, source.raw
        if header.datatype is BYTES:
            strings += math.prod(header.shape)
            if strings > _MAX_STRINGS:
                raise InvalidItem(
                    Reason.MESSAGE_TOO_COMPLEX,
                    f"the inputs up to {quoted(name)} have {strings} elements of BYTES, the server "
                    f"takes {_MAX_STRINGS} in a request: send several requests",
                )
        if source.shared:
            part, region = source.shared
            check_size(name, header, part.size)
            raw = region.read(part)
        if raw is None:
            inputs[name] = from_contents(name, header, source.tensor.contents)
        else:
            inputs[name] = from_raw(name, header, raw)
    return inputs
