"""Wire protocol of the Open Inference Protocol v2: tensors both ways, by tritonclient's stubs."""

from collections.abc import Iterator, Sequence
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt

from vecserve import _channel
from vecserve.bench.load import Load
from vecserve.bench.targets import BenchError, Target
from vecserve.bench.wire import Message, StreamOutcome
from vecserve.bench.workload import token_ids

_SERVICE = "/inference.GRPCInferenceService"
_METADATA_TIMEOUT_S = 30.0
_DTYPES = {"INT64": "<i8", "INT32": "<i4", "UINT8": "u1", "FP32": "<f4", "FP16": "<f2"}
_DYNAMIC = -1


class OipWire:
    """Encodes a load for `ModelInfer` and `ModelStreamInfer`, by the model's metadata.

    Integer inputs of shape [-1, -1] hold tokens: ones where the name has "mask",
    zeros where it has "type", else ids. Other inputs must have a fixed shape
    after the batch axis and get random numbers. The first output is requested.
    """

    unary_path = f"{_SERVICE}/ModelInfer"
    stream_path = f"{_SERVICE}/ModelStreamInfer"
    channel_options: Sequence[tuple[str, int]] = _channel.OPTIONS

    def __init__(self, target: Target) -> None:
        """Read the models' metadata from the server. Raises BenchError."""
        try:
            from tritonclient.grpc import service_pb2
        # RuntimeError: its stubs are newer than the grpcio at hand.
        except (ImportError, RuntimeError) as error:
            raise BenchError(
                f"OIP targets need tritonclient: pip install 'vecserve[bench]' ({error})"
            ) from error
        self._pb: Any = service_pb2
        self._models = [_metadata(service_pb2, target, name) for name in target.models]
        self.untrained: list[str] = []

    def encode(self, load: Load) -> list[Message]:
        """Return the load's messages, models alternating. Raises BenchError."""
        if load.files:
            raise BenchError("OIP takes tensors, not --files: use --tokens, or a typed target")
        ids = token_ids(load, load.pool * load.items)
        messages = []
        for number in range(load.pool):
            rows = ids[number * load.items : (number + 1) * load.items]
            model = self._models[number % len(self._models)]
            data = self._request(model, load, str(number), rows).SerializeToString()
            messages.append(Message(number, data, load.items))
        return messages

    def _request(self, model: Any, load: Load, request_id: str, rows: list[list[int]]) -> Any:
        request = self._pb.ModelInferRequest(model_name=model.name, id=request_id)
        if load.stream and load.sent_timeout_s is not None:
            # Triton's request parameter, in microseconds.
            request.parameters["timeout"].int64_param = int(load.sent_timeout_s * 1e6)
        for meta in model.inputs:
            values = _values(meta, rows)
            request.inputs.add(name=meta.name, datatype=meta.datatype, shape=values.shape)
            request.raw_input_contents.append(values.tobytes())
        request.outputs.add(name=model.outputs[0].name)
        return request

    def read(self, answer: bytes) -> list[str | None]:
        """Return None for each row: errors of unary calls are gRPC's."""
        response = self._pb.ModelInferResponse.FromString(answer)
        return [None] * response.outputs[0].shape[0]

    def read_stream(self, answer: bytes) -> Iterator[StreamOutcome]:
        """Yield the one outcome that a message of the stream has."""
        response = self._pb.ModelStreamInferResponse.FromString(answer)
        inferred = response.infer_response
        if response.error_message:
            yield StreamOutcome(int(inferred.id), 1, response.error_message.partition(":")[0][:40])
        else:
            yield StreamOutcome(int(inferred.id), inferred.outputs[0].shape[0], None)


def _metadata(pb: Any, target: Target, model: str) -> Any:
    with grpc.insecure_channel(target.address) as channel:
        model_metadata = channel.unary_unary(
            f"{_SERVICE}/ModelMetadata",
            request_serializer=pb.ModelMetadataRequest.SerializeToString,
            response_deserializer=pb.ModelMetadataResponse.FromString,
        )
        try:
            return model_metadata(pb.ModelMetadataRequest(name=model), timeout=_METADATA_TIMEOUT_S)
        except grpc.RpcError as error:
            raise BenchError(
                f"target {target.name}: {target.address} gives no metadata of {model}: "
                f"{error.code().name}: {error.details()}"
            ) from error


def _values(meta: Any, rows: list[list[int]]) -> npt.NDArray[np.generic]:
    if meta.datatype not in _DTYPES:
        raise BenchError(f"input {meta.name} is {meta.datatype}; known: {', '.join(_DTYPES)}")
    dtype = np.dtype(_DTYPES[meta.datatype])
    if dtype.kind == "i" and list(meta.shape) == [_DYNAMIC, _DYNAMIC]:
        values = np.zeros((len(rows), max(map(len, rows))), dtype)
        for row, ids in zip(values, rows, strict=True):
            if "type" not in meta.name:
                row[: len(ids)] = 1 if "mask" in meta.name else ids
        return values
    inner = tuple(meta.shape)[1:]
    if _DYNAMIC in inner:
        raise BenchError(
            f"input {meta.name} of shape {list(meta.shape)} holds no tokens: unsupported"
        )
    random = np.random.default_rng(len(rows[0]))
    if dtype.kind == "f":
        return random.random((len(rows), *inner)).astype(dtype)
    return random.integers(0, 128, (len(rows), *inner)).astype(dtype)
