"""Conversion of inference messages to our own values and back. Protobuf ends here."""

from collections.abc import Mapping

from vecserve_server.api.oip.parameters import (
    refuse_sequences,
    shared_part,
    to_job_options,
    to_options,
)
from vecserve_server.api.oip.shared_memory import Part, Region, Regions
from vecserve_server.api.oip.stubs import grpc_service_pb2 as pb
from vecserve_server.api.oip.tensors import from_contents, from_raw, to_raw
from vecserve_server.api.rpc.caller import Caller
from vecserve_server.errors import InvalidItem
from vecserve_server.reasons import Reason
from vecserve_server.serving.model import ServedModel
from vecserve_server.serving.request import Array, Tensor, TensorRequest


def to_request(
    request: pb.ModelInferRequest, regions: Regions, caller: Caller, *, waits: bool
) -> TensorRequest:
    """Return what a request wants computed. Raises InvalidItem, RegionNotFound."""
    refuse_sequences(request.parameters)
    names = [output.name for output in request.outputs]
    if len(set(names)) < len(names):
        raise InvalidItem(Reason.DUPLICATE_OUTPUT, f"outputs {names}: name each once")
    for output in request.outputs:
        if "classification" in output.parameters:
            raise InvalidItem(
                Reason.NO_CLASSIFICATION,
                f"output {output.name!r}: this server ranks no classes; ask for the tensor",
            )
    return TensorRequest(
        _inputs(request, regions),
        tuple(names),
        to_job_options(request.parameters, caller),
        to_options(request.parameters),
        waits,
    )


def _inputs(request: pb.ModelInferRequest, regions: Regions) -> dict[str, Tensor]:
    parts = [shared_part(tensor.parameters) for tensor in request.inputs]
    in_messages = parts.count(None)
    raw = iter(request.raw_input_contents)
    has_raw = len(request.raw_input_contents) > 0
    if has_raw and len(request.raw_input_contents) != in_messages:
        raise InvalidItem(
            Reason.SIZE_MISMATCH,
            f"{in_messages} inputs are not in shared memory, raw_input_contents has "
            f"{len(request.raw_input_contents)} entries: send one for each",
        )
    inputs: dict[str, Tensor] = {}
    for tensor, part in zip(request.inputs, parts, strict=True):
        if tensor.name in inputs:
            raise InvalidItem(Reason.DUPLICATE_INPUT, f"input {tensor.name!r} is there twice")
        if part:
            inputs[tensor.name] = from_raw(tensor, regions.find_part(part).read(part))
        elif not has_raw:
            inputs[tensor.name] = from_contents(tensor)
        elif tensor.HasField("contents"):
            raise InvalidItem(
                Reason.TWO_CONTENTS,
                f"input {tensor.name!r} has contents beside raw_input_contents: send one of them",
            )
        else:
            inputs[tensor.name] = from_raw(tensor, next(raw))
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
