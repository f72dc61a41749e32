"""EmbeddingService of vecserve.v1."""

import asyncio
from functools import partial
from itertools import count

import grpc

from vecserve.v1 import embedding_pb2
from vecserve_server.api.embedding.call import answer_all, check_items
from vecserve_server.api.embedding.describe import to_model_info
from vecserve_server.api.embedding.items import ItemHandler
from vecserve_server.api.embedding.stream import EmbedStream
from vecserve_server.api.rpc.caller import caller_of
from vecserve_server.api.rpc.handlers import stream, unary
from vecserve_server.modalities.content import Limits
from vecserve_server.models.registry import ModelRegistry

SERVICE = embedding_pb2.DESCRIPTOR.services_by_name["EmbeddingService"].full_name


class EmbeddingService:
    """Speaks vecserve.v1."""

    def __init__(
        self,
        stopping: asyncio.Event,
        registry: ModelRegistry,
        handler: ItemHandler,
        limits: Limits,
        *,
        max_stream_items: int,
    ) -> None:
        self._stopping = stopping
        self._registry = registry
        self._handler = handler
        self._limits = limits
        self._max_stream_items = max_stream_items
        self._stream_numbers = count(1)

    def handler(self) -> grpc.GenericRpcHandler:
        """Return the handler to register with a server."""
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Embed": unary(embedding_pb2.EmbedRequest, self.embed),
                "EmbedStream": stream(self.embed_stream),
                "ListModels": unary(embedding_pb2.ListModelsRequest, self.list_models),
                "GetModel": unary(embedding_pb2.GetModelRequest, self.get_model),
            },
        )

    async def embed(
        self, request: embedding_pb2.EmbedRequest, context: grpc.aio.ServicerContext
    ) -> embedding_pb2.EmbedResponse:
        """Answer Embed. Raises ServingError if the request fails as a whole."""
        caller = caller_of(context)
        fields = await check_items(request.items, caller.peer)
        shared = self._handler.context_of(request, caller, counted=True)
        with shared.model.accept(fields, caller.name):
            return await answer_all(request.items, partial(self._handler.handle, context=shared))

    async def embed_stream(self, context: grpc.aio.ServicerContext) -> None:
        """Answer EmbedStream. Raises ServingError if it ends before the client ends it."""
        caller = caller_of(context, stream=next(self._stream_numbers))
        await EmbedStream(
            context, caller, self._handler, self._stopping, self._max_stream_items
        ).serve()

    async def list_models(
        self, _request: embedding_pb2.ListModelsRequest, _context: grpc.aio.ServicerContext
    ) -> embedding_pb2.ListModelsResponse:
        """Answer ListModels."""
        return embedding_pb2.ListModelsResponse(
            models=[to_model_info(version, self._limits) for version in self._registry.bundles()]
        )

    async def get_model(
        self, request: embedding_pb2.GetModelRequest, _context: grpc.aio.ServicerContext
    ) -> embedding_pb2.GetModelResponse:
        """Answer GetModel. Raises ModelNotFound, ModelNotReady of one that is unloaded."""
        version = self._registry.find_bundle_version(request.model, request.version)
        return embedding_pb2.GetModelResponse(model=to_model_info(version, self._limits))
