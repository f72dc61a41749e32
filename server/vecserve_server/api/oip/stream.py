"""Inference stream: many requests at a time, one response each, in their order.

Triton keeps the order too, and clients rely on it: tritonclient hands an error
to its caller without the request's id. The reader takes a place, and the bytes,
of every request before it starts a task for it; the writer gives both back. So
a client that does not read its responses, or a model that is busy, stops the
reader, and HTTP/2 stops the sender.
"""

import asyncio
from collections import deque
from dataclasses import dataclass

import grpc

from vecserve_server.api.oip.messages import MAX_ID_BYTES
from vecserve_server.api.oip.requests import InferHandler
from vecserve_server.api.oip.stubs import grpc_service_pb2 as pb
from vecserve_server.api.rpc.caller import Caller
from vecserve_server.api.rpc.streaming import read_stream
from vecserve_server.errors import ServingError, drop_tracebacks
from vecserve_server.serving.budget import ByteBudget
from vecserve_server.wording import cut

# A client that sends it as "true" wants errors as the stream's status.
STATUS_HEADER = "triton_grpc_error"


@dataclass(frozen=True, slots=True)
class _Pending:
    """A request whose response is still to be sent; `size` in bytes."""

    id: str
    size: int
    task: "asyncio.Task[pb.ModelInferResponse]"


class InferStream:
    """The state of one stream."""

    def __init__(
        self,
        context: grpc.aio.ServicerContext,
        caller: Caller,
        handler: InferHandler,
        stopping: asyncio.Event,
        *,
        max_requests: int,
        max_bytes: int,
    ) -> None:
        self._context = context
        self._caller = caller
        self._handler = handler
        self._stopping = stopping
        self._slots = asyncio.Semaphore(max_requests)
        self._bytes = ByteBudget(max_bytes)
        self._pending: deque[_Pending] = deque()
        self._news = asyncio.Event()
        headers = dict(context.invocation_metadata() or ())
        self._errors_as_status = headers.get(STATUS_HEADER) == "true"

    async def serve(self) -> None:
        """Answer all that the client sends. Raises ServingError if it ends before its end."""
        reader = asyncio.create_task(
            read_stream(self._context, pb.ModelInferRequest, self._accept, self._stopping)
        )
        reader.add_done_callback(lambda _: self._news.set())
        try:
            while not (reader.done() and not self._pending):
                while self._pending:
                    await self._send(self._pending[0])
                    self._pending.popleft()
                if not reader.done():
                    await self._news.wait()
                    self._news.clear()
            if error := reader.result():
                raise error
        finally:
            reader.cancel()
            for pending in self._pending:
                pending.task.cancel()
            # Whatever else failed is nobody's news any more.
            tasks = [pending.task for pending in self._pending]
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, pending: _Pending) -> None:
        """Send one response once it is there. Raises its error if that is to end the stream."""
        try:
            result = await pending.task
        except ServingError as error:
            if self._errors_as_status:
                raise
            drop_tracebacks(error)
            # Not all of one that was refused for its length.
            id_ = cut(pending.id, MAX_ID_BYTES)
            prefix = f"[request id: {id_}] " if id_ else ""
            response = pb.ModelStreamInferResponse(error_message=f"{prefix}{error.message}")
            response.infer_response.id = id_
        else:
            result.parameters["triton_final_response"].bool_param = True
            response = pb.ModelStreamInferResponse(infer_response=result)
        await self._context.write(response)
        self._bytes.release(pending.size)
        self._slots.release()

    async def _accept(self, request: pb.ModelInferRequest) -> None:
        size = request.ByteSize()
        await self._slots.acquire()
        await self._bytes.acquire(size)
        task = asyncio.create_task(self._handler.handle(request, self._caller, waits=True))
        self._pending.append(_Pending(request.id, size, task))
        self._news.set()
