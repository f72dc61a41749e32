"""Rules of the two services that every gRPC tool knows."""

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from tests.contract.embedding.requests import MINILM, TIMEOUT_S

SERVICES = {
    "vecserve.v1.EmbeddingService",
    "inference.GRPCInferenceService",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
}


@pytest.mark.parametrize(
    "name", ["", "vecserve.v1.EmbeddingService", "inference.GRPCInferenceService", MINILM]
)
def test_health_answers_for_the_server_each_service_and_each_model(
    channel: grpc.Channel, name: str
) -> None:
    request = health_pb2.HealthCheckRequest(service=name)
    answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=TIMEOUT_S)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_health_of_what_is_not_there_is_not_found(channel: grpc.Channel) -> None:
    request = health_pb2.HealthCheckRequest(service="gpt")
    with pytest.raises(grpc.RpcError) as failure:
        health_pb2_grpc.HealthStub(channel).Check(request, timeout=TIMEOUT_S)
    assert failure.value.code() == grpc.StatusCode.NOT_FOUND


def reflect(
    channel: grpc.Channel, version: str, *questions: reflection_pb2.ServerReflectionRequest
) -> list[reflection_pb2.ServerReflectionResponse]:
    call = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        reflection_pb2.ServerReflectionRequest.SerializeToString,
        reflection_pb2.ServerReflectionResponse.FromString,
    )
    return list(call(iter(questions), timeout=TIMEOUT_S))


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_lists_every_service(channel: grpc.Channel, version: str) -> None:
    question = reflection_pb2.ServerReflectionRequest(list_services="")
    (answer,) = reflect(channel, version, question)
    assert {service.name for service in answer.list_services_response.service} >= SERVICES


def described(
    channel: grpc.Channel, version: str, *symbols: str
) -> list[list[descriptor_pb2.FileDescriptorProto]]:
    """The files that come with each symbol."""
    request = reflection_pb2.ServerReflectionRequest
    questions = [request(file_containing_symbol=symbol) for symbol in symbols]
    return [
        [
            descriptor_pb2.FileDescriptorProto.FromString(data)
            for data in answer.file_descriptor_response.file_descriptor_proto
        ]
        for answer in reflect(channel, version, *questions)
    ]


def methods_of(files: list[descriptor_pb2.FileDescriptorProto], service: str) -> list[str]:
    return [
        method.name
        for file in files
        for one in file.service
        if f"{file.package}.{one.name}" == service
        for method in one.method
    ]


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_describes_every_service_and_method(channel: grpc.Channel, version: str) -> None:
    names = sorted(SERVICES)
    for name, files in zip(names, described(channel, version, *names), strict=True):
        methods = methods_of(files, name)
        assert methods, name
        symbols = [f"{name}.{method}" for method in methods]
        for symbol, found in zip(symbols, described(channel, version, *symbols), strict=True):
            assert methods_of(found, name) == methods, symbol


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_of_what_is_not_there_is_not_found(channel: grpc.Channel, version: str) -> None:
    request = reflection_pb2.ServerReflectionRequest
    names = ("gpt", "vecserve.v1.EmbeddingService.Gpt")
    questions = [request(file_containing_symbol=name) for name in names]
    for answer in reflect(channel, version, *questions):
        assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
