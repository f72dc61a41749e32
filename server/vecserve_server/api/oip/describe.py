"""Model descriptions of the Open Inference Protocol: metadata, configuration, statistics."""

from collections.abc import Sequence

from vecserve_server.api.oip.stubs import grpc_service_pb2 as pb
from vecserve_server.api.oip.stubs import model_config_pb2 as config_pb
from vecserve_server.engine.tensors import TensorSpec
from vecserve_server.serving.model import ServedModel
from vecserve_server.telemetry.statistics import DurationStat


def to_metadata(model: ServedModel, versions: Sequence[str]) -> pb.ModelMetadataResponse:
    """Return a model's inputs and outputs, the batch axis included."""
    return pb.ModelMetadataResponse(
        name=model.name,
        versions=versions,
        platform=model.platform,
        inputs=[_tensor(spec) for spec in model.inputs],
        outputs=[_tensor(spec) for spec in model.outputs],
    )


def _tensor(spec: TensorSpec) -> pb.ModelMetadataResponse.TensorMetadata:
    return pb.ModelMetadataResponse.TensorMetadata(
        name=spec.name, datatype=spec.datatype.name, shape=_lengths(spec)
    )


def _lengths(spec: TensorSpec) -> list[int]:
    return [axis if isinstance(axis, int) else -1 for axis in spec.shape]


def to_config(model: ServedModel, versions: Sequence[str]) -> config_pb.ModelConfig:
    """Return how a model is served. Where there is a batch axis, dims leave it out."""
    first = 1 if model.max_batch_size else 0
    config = config_pb.ModelConfig(
        name=model.name,
        platform=model.platform,
        backend=model.backend,
        max_batch_size=model.max_batch_size,
        default_model_filename=model.filename,
        input=[
            config_pb.ModelInput(
                name=spec.name,
                data_type=_data_type(spec),
                dims=_lengths(spec)[first:],
                optional=model.optional_inputs,
            )
            for spec in model.inputs
        ],
        output=[
            config_pb.ModelOutput(
                name=spec.name, data_type=_data_type(spec), dims=_lengths(spec)[first:]
            )
            for spec in model.outputs
        ],
        instance_group=[
            config_pb.ModelInstanceGroup(
                name=model.name,
                kind=config_pb.ModelInstanceGroup.KIND_CPU,
                count=model.instances,
            )
        ],
        version_policy=config_pb.ModelVersionPolicy(
            specific=config_pb.ModelVersionPolicy.Specific(
                versions=[int(version) for version in versions]
            )
        ),
        model_transaction_policy=config_pb.ModelTransactionPolicy(decoupled=False),
    )
    if model.max_batch_size:
        config.dynamic_batching.max_queue_delay_microseconds = round(model.queue_delay_s * 1e6)
    for name, value in model.about.items():
        config.parameters[name].string_value = value
    return config


def _data_type(spec: TensorSpec) -> config_pb.DataType:
    name = "STRING" if spec.datatype.name == "BYTES" else spec.datatype.name
    value: config_pb.DataType = config_pb.DataType.Value(f"TYPE_{name}")  # type: ignore[assignment]
    return value


def to_statistics(model: ServedModel) -> pb.ModelStatistics:
    """Return what requests to a model cost."""
    statistics = model.statistics
    return pb.ModelStatistics(
        name=model.name,
        version=model.version,
        last_inference=statistics.last_request_ms,
        inference_count=statistics.rows,
        execution_count=statistics.batches,
        inference_stats=pb.InferStatistics(
            success=_spent(statistics.success),
            fail=_spent(statistics.fail),
            queue=_spent(statistics.queue),
            compute_input=_spent(statistics.input),
            compute_infer=_spent(statistics.infer),
            compute_output=_spent(statistics.output),
        ),
        batch_stats=[
            pb.InferBatchStatistics(
                batch_size=size,
                compute_input=_spent(spent.input),
                compute_infer=_spent(spent.infer),
                compute_output=_spent(spent.output),
            )
            for size, spent in sorted(statistics.by_batch_size.items())
        ],
    )


def _spent(spent: DurationStat) -> pb.StatisticDuration:
    return pb.StatisticDuration(count=spent.count, ns=round(spent.seconds * 1e9))
