"""Request parameters of the Open Inference Protocol: their types and their meaning."""

from collections.abc import Mapping

from vecserve_server.api.oip.shared_memory import Part
from vecserve_server.api.oip.stubs import grpc_service_pb2 as pb
from vecserve_server.api.rpc.caller import Caller
from vecserve_server.errors import InvalidItem
from vecserve_server.reasons import Reason
from vecserve_server.repository.manifest import Pooling
from vecserve_server.scheduling.options import JobOptions, Priority
from vecserve_server.serving.options import EmbedOptions
from vecserve_server.wording import quoted

Parameters = Mapping[str, pb.InferParameter]
Value = bool | int | float | str

_SEQUENCE = ("sequence_id", "sequence_start", "sequence_end")
_TYPE_NAMES = {bool: "a bool", int: "a whole number", str: "a string"}


def value_of(parameters: Parameters, name: str, expected: type[Value]) -> Value | None:
    """Return a parameter's value, None without one. Raises InvalidItem for another type."""
    if name not in parameters:
        return None
    parameter = parameters[name]
    choice = parameter.WhichOneof("parameter_choice")
    if choice is None:
        return None
    value: Value = getattr(parameter, choice)
    if type(value) is not expected:
        raise InvalidItem(
            Reason.BAD_PARAMETER,
            f"parameter {quoted(name)} is {quoted(value)}: it must be {_TYPE_NAMES[expected]}",
        )
    return value


def refuse_sequences(parameters: Parameters) -> None:
    """Raise InvalidItem for a request that is part of a sequence."""
    for name in _SEQUENCE:
        choice = name in parameters and parameters[name].WhichOneof("parameter_choice")
        if choice and getattr(parameters[name], choice):
            raise InvalidItem(
                Reason.NO_SEQUENCES,
                f"parameter {quoted(name)}: no model here keeps a state between requests; leave "
                "it out",
            )


def to_job_options(parameters: Parameters, caller: Caller) -> JobOptions:
    """Return on what terms a request waits: the earlier of the RPC's deadline and its `timeout`.

    Raises InvalidItem.
    """
    # Triton's clients send 0 for none.
    timeout_us = int(value_of(parameters, "timeout", int) or 0)
    if timeout_us < 0:
        raise InvalidItem(Reason.TIMEOUT_INVALID, f"timeout is {timeout_us} us: make it positive")
    priority = value_of(parameters, "priority", int)
    level = None
    if priority:
        level = Priority.INTERACTIVE if priority == 1 else Priority.BULK
    deadline = caller.deadline.within(timeout_us / 1e6 or None)
    return JobOptions(caller.name, level, deadline, caller.peer)


def to_options(parameters: Parameters) -> EmbedOptions:
    """Return how raw input is to be embedded. Raises InvalidItem."""
    normalize = value_of(parameters, "normalize", bool)
    truncate = value_of(parameters, "truncate", bool)
    pooling = value_of(parameters, "pooling", str)
    input_type = value_of(parameters, "input_type", str)
    prompt = value_of(parameters, "prompt", str)
    dimensions, frames = (_count(parameters, name) for name in ("dimensions", "frames"))
    if pooling is not None and pooling not in set(Pooling):
        raise InvalidItem(
            Reason.UNKNOWN_VALUE,
            f"pooling is {quoted(pooling)}; there are: {', '.join(sorted(Pooling))}",
        )
    return EmbedOptions(
        normalize=None if normalize is None else bool(normalize),
        refuse_truncation=truncate is False,
        pooling=None if pooling is None else Pooling(str(pooling)),
        input_type=None if input_type is None else str(input_type),
        prompt=None if prompt is None else str(prompt),
        dimensions=dimensions,
        force_dimensions=bool(value_of(parameters, "force_dimensions", bool)),
        frames=frames,
    )


def _count(parameters: Parameters, name: str) -> int | None:
    count = int(value_of(parameters, name, int) or 0)
    if count < 0:
        raise InvalidItem(Reason.UNKNOWN_VALUE, f"{name} is {count}: make it positive")
    return count or None


def shared_part(parameters: Parameters) -> Part | None:
    """Return where in shared memory a tensor lies, or None. Raises InvalidItem."""
    region = value_of(parameters, "shared_memory_region", str)
    if region is None:
        return None
    size = value_of(parameters, "shared_memory_byte_size", int)
    if size is None:
        raise InvalidItem(
            Reason.BAD_PARAMETER, f"region {quoted(region)}: shared_memory_byte_size is missing"
        )
    return Part(str(region), int(value_of(parameters, "shared_memory_offset", int) or 0), int(size))
