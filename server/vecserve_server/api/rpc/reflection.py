"""Server reflection, as v1 and as the v1alpha that older tools ask for."""

from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, text_format
from google.protobuf.descriptor import FileDescriptor
from grpc_reflection.v1alpha import reflection, reflection_pb2

from vecserve_server.api.rpc.drain import Drain

_ALPHA: str = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"].full_name
# v1 is v1alpha under another name: the messages are the same on the wire.
_V1 = _ALPHA.replace("v1alpha", "v1")


def reflection_handlers(
    services: Iterable[str], drain: Drain
) -> tuple[grpc.GenericRpcHandler, ...]:
    """Return the handlers that describe `services` and themselves, to register with a server.

    Their streams, which tools keep open, end once the drain closes.
    """
    _describe_v1()
    servicer = reflection.aio.ReflectionServicer((*services, _ALPHA, _V1), _Pool())

    async def describe(
        requests: AsyncIterator[reflection_pb2.ServerReflectionRequest],
        context: grpc.aio.ServicerContext,
    ) -> AsyncIterator[reflection_pb2.ServerReflectionResponse]:
        until_closed = drain.until_closed(requests)
        async for response in servicer.ServerReflectionInfo(until_closed, context):
            yield response

    method = grpc.stream_stream_rpc_method_handler(
        describe,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    return tuple(
        grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": method})
        for name in (_ALPHA, _V1)
    )


class _Pool:
    """The descriptors of this process, found by a method's name too: protobuf finds no methods."""

    def __init__(self) -> None:
        self._all = descriptor_pool.Default()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._all, name)

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:
        """Return the file that declares a symbol. Raises KeyError."""
        try:
            return self._all.FindFileContainingSymbol(symbol)
        except KeyError:
            return self._all.FindMethodByName(symbol).containing_service.file


def _describe_v1() -> None:
    """Add v1's descriptor to those that reflection finds."""
    file = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(file)
    text = text_format.MessageToString(file).replace("v1alpha", "v1")
    renamed = text_format.Parse(text, descriptor_pb2.FileDescriptorProto())
    descriptor_pool.Default().AddSerializedFile(renamed.SerializeToString())
