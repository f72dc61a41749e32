"""The rule that messages are Triton's on the wire: names, numbers and types."""

import grpc
import pytest
from google.protobuf import descriptor_pb2 as pb
from google.protobuf.descriptor import FileDescriptor
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tritonclient.grpc import model_config_pb2, service_pb2

from tests.contract.embedding.requests import TIMEOUT_S

SERVICE = "inference.GRPCInferenceService"
Parts = dict[str, object]


def parts_of(file: pb.FileDescriptorProto) -> Parts:
    """What must agree, by full name: of fields and values the numbers, of methods the types."""
    parts: Parts = {}

    def add_enum(enum: pb.EnumDescriptorProto, scope: str) -> None:
        for value in enum.value:
            parts[f"{scope}.{enum.name}.{value.name}"] = value.number

    def add_message(message: pb.DescriptorProto, scope: str) -> None:
        name = f"{scope}.{message.name}"
        for field in message.field:
            parts[f"{name}.{field.name}"] = (
                *(field.number, field.type, field.label),
                field.type_name.lstrip("."),
            )
        for nested in message.nested_type:
            add_message(nested, name)
        for enum in message.enum_type:
            add_enum(enum, name)

    for message in file.message_type:
        add_message(message, file.package)
    for enum in file.enum_type:
        add_enum(enum, file.package)
    for service in file.service:
        for method in service.method:
            parts[f"{service.name}/{method.name}"] = (
                *(method.input_type.lstrip("."), method.output_type.lstrip(".")),
                *(method.client_streaming, method.server_streaming),
            )
    return parts


def tritons(file: FileDescriptor) -> Parts:
    copy = pb.FileDescriptorProto()
    file.CopyToProto(copy)
    return parts_of(copy)


@pytest.fixture
def described(channel: grpc.Channel) -> Parts:
    """What the server says of itself."""
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    question = reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE)
    (answer,) = stub.ServerReflectionInfo(iter([question]), timeout=TIMEOUT_S)
    files = answer.file_descriptor_response.file_descriptor_proto
    parts = [parts_of(pb.FileDescriptorProto.FromString(data)) for data in files]
    return {name: part for file in parts for name, part in file.items()}


def test_what_the_server_describes_is_tritons(described: Parts) -> None:
    triton = tritons(service_pb2.DESCRIPTOR) | tritons(model_config_pb2.DESCRIPTOR)
    assert {name: triton.get(name) for name in described} == described


def test_every_method_of_triton_is_there(described: Parts) -> None:
    def methods(parts: Parts) -> set[str]:
        return {name for name in parts if "/" in name}

    assert methods(described) == methods(tritons(service_pb2.DESCRIPTOR))
