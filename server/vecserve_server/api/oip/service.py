"""GRPCInferenceService: the Open Inference Protocol with Triton's extensions."""

import asyncio
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from itertools import count

import grpc
from google.protobuf.message import Message

from vecserve_server.api.oip.describe import to_config, to_metadata, to_statistics
from vecserve_server.api.oip.requests import InferHandler
from vecserve_server.api.oip.shared_memory import Regions
from vecserve_server.api.oip.stream import InferStream
from vecserve_server.api.oip.stubs import grpc_service_pb2 as pb
from vecserve_server.api.rpc.caller import caller_of
from vecserve_server.api.rpc.handlers import stream, unary
from vecserve_server.errors import FeatureOff, InvalidItem, RegionNotFound, ServingError
from vecserve_server.models.manager import ModelManager
from vecserve_server.models.registry import ModelRegistry, State
from vecserve_server.reasons import Reason
from vecserve_server.wording import quoted

_DESCRIPTOR = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
SERVICE: str = _DESCRIPTOR.full_name


class InferenceService:
    """Speaks inference.GRPCInferenceService."""

    def __init__(
        self,
        stopping: asyncio.Event,
        manager: ModelManager,
        registry: ModelRegistry,
        handler: InferHandler,
        regions: Regions,
        *,
        max_stream_items: int,
        max_stream_bytes: int,
    ) -> None:
        self._stopping = stopping
        self._manager = manager
        self._registry = registry
        self._handler = handler
        self._regions = regions
        self._max_stream_items = max_stream_items
        self._max_stream_bytes = max_stream_bytes
        self._stream_numbers = count(1)

    def handler(self) -> grpc.GenericRpcHandler:
        """Return the handler to register with a server."""
        methods: dict[str, Callable[..., Awaitable[Message]]] = {
            "ServerLive": self.server_live,
            "ServerReady": self.server_ready,
            "ModelReady": self.model_ready,
            "ServerMetadata": self.server_metadata,
            "ModelMetadata": self.model_metadata,
            "ModelInfer": self.model_infer,
            "ModelConfig": self.model_config,
            "ModelStatistics": self.model_statistics,
            "RepositoryIndex": self.repository_index,
            "RepositoryModelLoad": self.repository_model_load,
            "RepositoryModelUnload": self.repository_model_unload,
            "SystemSharedMemoryStatus": self.system_shared_memory_status,
            "SystemSharedMemoryRegister": self.system_shared_memory_register,
            "SystemSharedMemoryUnregister": self.system_shared_memory_unregister,
            "CudaSharedMemoryStatus": self.cuda_shared_memory_status,
            "CudaSharedMemoryRegister": self.cuda_shared_memory_register,
            "CudaSharedMemoryUnregister": self.cuda_shared_memory_unregister,
            "TraceSetting": self.trace_setting,
            "LogSettings": self.log_settings,
        }
        handlers = {
            name: unary(getattr(pb, _DESCRIPTOR.methods_by_name[name].input_type.name), method)
            for name, method in methods.items()
        }
        handlers["ModelStreamInfer"] = stream(self.model_stream_infer)
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    async def server_live(
        self, _request: pb.ServerLiveRequest, _: grpc.aio.ServicerContext
    ) -> Message:
        """Answer ServerLive."""
        return pb.ServerLiveResponse(live=True)

    async def server_ready(
        self, _request: pb.ServerReadyRequest, _: grpc.aio.ServicerContext
    ) -> Message:
        """Answer ServerReady."""
        return pb.ServerReadyResponse(ready=self._manager.ready)

    async def model_ready(
        self, request: pb.ModelReadyRequest, _: grpc.aio.ServicerContext
    ) -> Message:
        """Answer ModelReady."""
        try:
            self._registry.find(request.name, request.version)
        except ServingError:
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=True)

    async def server_metadata(
        self, _request: pb.ServerMetadataRequest, _: grpc.aio.ServicerContext
    ) -> Message:
        """Answer ServerMetadata: of the extensions only those that work."""
        extensions = ["model_configuration", "model_repository", "parameters", "statistics"]
        if self._regions.supported():
            extensions.append("system_shared_memory")
        return pb.ServerMetadataResponse(
            name="vecserve", version=version("vecserve"), extensions=sorted(extensions)
        )

    async def model_metadata(
        self, request: pb.ModelMetadataRequest, _: grpc.aio.ServicerContext
    ) -> Message:
        """Answer ModelMetadata. Raises ModelNotFound, ModelNotReady."""
        model = self._registry.find(request.name, request.version)
        return to_metadata(model, self._registry.ready_versions(model.name))

    async def model_config(
        self, request: pb.ModelConfigRequest, _: grpc.aio.ServicerContext
    ) -> Message:
        """Answer ModelConfig. Raises ModelNotFound, ModelNotReady."""
        model = self._registry.find(request.name, request.version)
        config = to_config(model, self._registry.ready_versions(model.name))
        return pb.ModelConfigResponse(config=config)

    async def model_statistics(
        self, request: pb.ModelStatisticsRequest, _: grpc.aio.ServicerContext
    ) -> Message:
        """Answer ModelStatistics. Raises ModelNotFound, ModelNotReady."""
        if request.name:
            self._registry.find(request.name, request.version)
        return pb.ModelStatisticsResponse(
            model_stats=[
                to_statistics(model)
                for model in self._registry.served()
                if request.name in ("", model.name) and request.version in ("", model.version)
            ]
        )

    async def model_infer(
        self, request: pb.ModelInferRequest, context: grpc.aio.ServicerContext
    ) -> Message:
        """Answer ModelInfer. Raises ServingError."""
        return await self._handler.handle(request, caller_of(context), waits=False)

    async def model_stream_infer(self, context: grpc.aio.ServicerContext) -> None:
        """Answer ModelStreamInfer. Raises ServingError if it ends before the client ends it."""
        await InferStream(
            context,
            caller_of(context, stream=next(self._stream_numbers)),
            self._handler,
            self._stopping,
            max_requests=self._max_stream_items,
            max_bytes=self._max_stream_bytes,
        ).serve()

    async def repository_index(
        self, request: pb.RepositoryIndexRequest, _: grpc.aio.ServicerContext
    ) -> Message:
        """Answer RepositoryIndex."""
        return pb.RepositoryIndexResponse(
            models=[
                pb.RepositoryIndexResponse.ModelIndex(
                    name=listing.name,
                    version=listing.version,
                    state=listing.state.value,
                    reason=listing.reason,
                )
                for listing in await self._manager.index()
                if not request.ready or listing.state is State.READY
            ]
        )

    async def repository_model_load(
        self, request: pb.RepositoryModelLoadRequest, _: grpc.aio.ServicerContext
    ) -> Message:
        """Answer RepositoryModelLoad. Raises InvalidItem, ModelNotFound, LoadFailed."""
        for name in request.parameters:
            if name == "config" or name.startswith("file:"):
                raise InvalidItem(
                    Reason.BAD_PARAMETER,
                    f"parameter {quoted(name)}: models are loaded from the repository as they "
                    "lie there; "
                    "change them there",
                )
        await self._manager.load(request.model_name)
        return pb.RepositoryModelLoadResponse()

    async def repository_model_unload(
        self, request: pb.RepositoryModelUnloadRequest, _: grpc.aio.ServicerContext
    ) -> Message:
        """Answer RepositoryModelUnload. Raises InvalidItem, ModelNotFound."""
        await self._manager.unload(request.model_name)
        return pb.RepositoryModelUnloadResponse()

    async def system_shared_memory_status(
        self, request: pb.SystemSharedMemoryStatusRequest, _: grpc.aio.ServicerContext
    ) -> Message:
        """Answer SystemSharedMemoryStatus. Raises RegionNotFound."""
        regions = self._regions.all()
        if request.name:
            regions = {request.name: self._regions.find(request.name)}
        status = pb.SystemSharedMemoryStatusResponse.RegionStatus
        return pb.SystemSharedMemoryStatusResponse(
            regions={
                name: status(name=name, key=region.key, offset=region.offset, byte_size=region.size)
                for name, region in regions.items()
            }
        )

    async def system_shared_memory_register(
        self, request: pb.SystemSharedMemoryRegisterRequest, _: grpc.aio.ServicerContext
    ) -> Message:
        """Answer SystemSharedMemoryRegister. Raises what Regions.register raises."""
        self._regions.register(request.name, request.key, request.offset, request.byte_size)
        return pb.SystemSharedMemoryRegisterResponse()

    async def system_shared_memory_unregister(
        self, request: pb.SystemSharedMemoryUnregisterRequest, _: grpc.aio.ServicerContext
    ) -> Message:
        """Answer SystemSharedMemoryUnregister."""
        self._regions.unregister(request.name)
        return pb.SystemSharedMemoryUnregisterResponse()

    async def cuda_shared_memory_status(
        self, request: pb.CudaSharedMemoryStatusRequest, _: grpc.aio.ServicerContext
    ) -> Message:
        """Answer CudaSharedMemoryStatus. Raises RegionNotFound for any name."""
        if request.name:
            raise RegionNotFound(
                Reason.REGION_NOT_FOUND,
                f"no CUDA shared memory region {quoted(request.name)} is registered",
            )
        return pb.CudaSharedMemoryStatusResponse()

    async def cuda_shared_memory_register(
        self, request: pb.CudaSharedMemoryRegisterRequest, _: grpc.aio.ServicerContext
    ) -> Message:
        """Answer CudaSharedMemoryRegister as Triton without GPUs does. Raises InvalidItem."""
        raise InvalidItem(
            Reason.NO_GPU,
            f"failed to register CUDA shared memory region: {quoted(request.name)}, GPUs not "
            "supported; "
            "use system shared memory",
        )

    async def cuda_shared_memory_unregister(
        self, _request: pb.CudaSharedMemoryUnregisterRequest, _: grpc.aio.ServicerContext
    ) -> Message:
        """Answer CudaSharedMemoryUnregister: there is nothing to forget."""
        return pb.CudaSharedMemoryUnregisterResponse()

    async def trace_setting(
        self, _request: pb.TraceSettingRequest, _: grpc.aio.ServicerContext
    ) -> Message:
        """Answer TraceSetting. Raises FeatureOff."""
        raise FeatureOff(Reason.NO_TRACING, "the server does not support tracing")

    async def log_settings(
        self, _request: pb.LogSettingsRequest, _: grpc.aio.ServicerContext
    ) -> Message:
        """Answer LogSettings. Raises FeatureOff."""
        raise FeatureOff(
            Reason.NO_LOG_SETTINGS,
            "the server does not support dynamic logging; start it with another --log-level",
        )
