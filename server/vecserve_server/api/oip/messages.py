"""Conversion of inference messages to our own values and back. Protobuf ends here."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from vecserve_server.api.oip.parameters import (
    refuse_sequences,
    shared_part,
    to_job_options,
    to_options,
)
from vecserve_server.api.oip.shared_memory import Part, Region, Regions
from vecserve_server.api.oip.stubs import grpc_service_pb2 as pb
from vecserve_server.api.oip.tensors import check_size, from_contents, from_raw, header_of, to_raw
from vecserve_server.api.rpc.caller import Caller
from vecserve_server.api.rpc.parsing import in_thread
from vecserve_server.engine.tensors import BYTES
from vecserve_server.errors import InvalidItem
from vecserve_server.reasons import Reason
from vecserve_server.serving.model import ServedModel
from vecserve_server.serving.request import Array, Tensor, TensorHeader, TensorRequest
from vecserve_server.wording import listed, quoted

MAX_ID_BYTES = 1024
# A model may have a column of a table an input.
_MAX_FIELDS = 1024
# Each is an object: so many take 20 ms.
_MAX_STRINGS = 64 * 1024
# What the event loop reads itself, in about 0.2 ms; so many bytes of shared memory also writes.
_QUICK_ELEMENTS = 2048
QUICK_BYTES = 256 * 1024


async def to_request(
    request: pb.ModelInferRequest,
    model: ServedModel,
    regions: Regions,
    caller: Caller,
    *,
    waits: bool,
) -> TensorRequest:
    """Return what a request wants computed. Raises InvalidItem, RegionNotFound.

    Names, datatypes, shapes and the number of rows are looked at first: elements are only
    read, which takes long where they are many, once the model takes them.
    """
    if len(request.id.encode()) > MAX_ID_BYTES:
        raise InvalidItem(
            Reason.ITEM_ID_TOO_LONG, f"a request's id has at most {MAX_ID_BYTES} bytes: shorten it"
        )
    _refuse_many(request)
    refuse_sequences(request.parameters)
    names = [output.name for output in request.outputs]
    if len(set(names)) < len(names):
        raise InvalidItem(Reason.DUPLICATE_OUTPUT, f"outputs {listed(names)}: name each once")
    for output in request.outputs:
        if "classification" in output.parameters:
            raise InvalidItem(
                Reason.NO_CLASSIFICATION,
                f"output {quoted(output.name)}: this server ranks no classes; ask for the tensor",
            )
    sources = _sources(request, regions)
    rows = model.check({source.tensor.name: source.header for source in sources}, names)
    regions.refuse_large([source.shared[0] for source in sources if source.shared])
    read = partial(_read, sources)
    return TensorRequest(
        await in_thread(read, caller.peer) if _takes_long(sources) else read(),
        rows,
        tuple(names),
        to_job_options(request.parameters, caller),
        to_options(request.parameters),
        waits,
    )


@dataclass(frozen=True, slots=True)
class _Source:
    """An input, and where its elements are: in shared memory, raw bytes, or its `contents`."""

    tensor: pb.ModelInferRequest.InferInputTensor
    header: TensorHeader
    shared: tuple[Part, Region] | None
    raw: bytes | None


def _refuse_many(request: pb.ModelInferRequest) -> None:
    for name, fields in (
        ("inputs", request.inputs),
        ("outputs", request.outputs),
        ("raw_input_contents", request.raw_input_contents),
        ("parameters", request.parameters),
    ):
        if len(fields) > _MAX_FIELDS:
            raise InvalidItem(
                Reason.MESSAGE_TOO_COMPLEX,
                f"the request has {len(fields)} {name}, the server takes {_MAX_FIELDS}: "
                "send those that the model has",
            )


def _sources(request: pb.ModelInferRequest, regions: Regions) -> list[_Source]:
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
        sources.append(_Source(tensor, header_of(tensor), shared, data))
    return sources


def _takes_long(sources: Sequence[_Source]) -> bool:
    """Whether elements are read one by one, and many, or many bytes of shared memory."""
    one_by_one = 0
    for source in sources:
        if source.shared and source.shared[0].size > QUICK_BYTES:
            return True
        if source.raw is None or source.header.datatype is BYTES:
            one_by_one += math.prod(source.header.shape)
    return one_by_one > _QUICK_ELEMENTS


def _read(sources: Sequence[_Source]) -> dict[str, Tensor]:
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


def shared_outputs(
    request: pb.ModelInferRequest, regions: Regions
) -> dict[str, tuple[Part, Region]]:
    """Return the outputs that go to shared memory, with where. Raises RegionNotFound, InvalidItem.

    Holding them keeps the regions open, whoever unregisters them meanwhile.
    """
    return {
        output.name: (part, regions.find_part(part))
        for output in request.outputs
        if (part := shared_part(output.parameters))
    }


def to_response(
    request: pb.ModelInferRequest,
    model: ServedModel,
    outputs: Mapping[str, Array],
    shared: Mapping[str, tuple[Part, Region]],
) -> pb.ModelInferResponse:
    """Return the answer to a request, and write what goes to shared memory. Raises InvalidItem."""
    response = pb.ModelInferResponse(
        model_name=model.name, model_version=model.version, id=request.id
    )
    datatypes = {spec.name: spec.datatype.name for spec in model.outputs}
    for name, values in outputs.items():
        output = response.outputs.add(name=name, datatype=datatypes[name], shape=values.shape)
        data = to_raw(values)
        if name in shared:
            part, region = shared[name]
            region.write(part, data)
            output.parameters["shared_memory_region"].string_param = part.region
            output.parameters["shared_memory_byte_size"].int64_param = len(data)
            if part.offset:
                output.parameters["shared_memory_offset"].int64_param = part.offset
            data = b""
        response.raw_output_contents.append(data)
    return response
