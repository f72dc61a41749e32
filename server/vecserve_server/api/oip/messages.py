"""Conversion of inference messages to our own values and back. Protobuf ends here."""

from collections.abc import Mapping
from functools import partial

from vecserve_server.api.oip.inputs import read_all, sources_of, takes_long
from vecserve_server.api.oip.parameters import (
    refuse_sequences,
    shared_part,
    to_job_options,
    to_options,
)
from vecserve_server.api.oip.shared_memory import Part, Region, Regions
from vecserve_server.api.oip.stubs import grpc_service_pb2 as pb
from vecserve_server.api.oip.tensors import to_raw
from vecserve_server.api.rpc.caller import Caller
from vecserve_server.api.rpc.parsing import in_thread
from vecserve_server.errors import InvalidItem
from vecserve_server.reasons import Reason
from vecserve_server.serving.model import ServedModel
from vecserve_server.serving.request import Array, TensorRequest
from vecserve_server.wording import listed, quoted

MAX_ID_BYTES = 1024
# A model may have a column of a table an input.
_MAX_FIELDS = 1024


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
    sources = sources_of(request, regions)
    rows = model.check({source.tensor.name: source.header for source in sources}, names)
    regions.refuse_large([source.shared[0] for source in sources if source.shared])
    read = partial(read_all, sources)
    return TensorRequest(
        await in_thread(read, caller.peer) if takes_long(sources) else read(),
        rows,
        tuple(names),
        to_job_options(request.parameters, caller),
        to_options(request.parameters),
        waits,
    )


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
