"""Item handler: one item in, one ItemResult out, whatever happens in between."""

from dataclasses import dataclass

from vecserve.v1 import embedding_pb2
from vecserve_server.api.embedding.requests import to_content, to_job_options, to_options
from vecserve_server.api.embedding.results import to_error_result, to_result
from vecserve_server.api.rpc.answering import answering, count_refused
from vecserve_server.api.rpc.caller import Caller
from vecserve_server.errors import ServingError, drop_tracebacks
from vecserve_server.models.registry import ModelRegistry
from vecserve_server.scheduling.options import JobOptions
from vecserve_server.serving.bundle_model import BundleModel
from vecserve_server.serving.options import EmbedOptions
from vecserve_server.telemetry.metrics import Metrics
from vecserve_server.telemetry.timings import Timings


@dataclass(frozen=True, slots=True)
class ItemContext:
    """What the items of one message have in common.

    `counted` as unanswered, all at once, are those of a call.
    """

    model: BundleModel
    options: EmbedOptions
    job_options: JobOptions
    counted: bool = False


class ItemHandler:
    """Answers items. `handle` never raises, but for the cancellation of its caller."""

    def __init__(self, registry: ModelRegistry, metrics: Metrics) -> None:
        self._registry = registry
        self._metrics = metrics

    def context_of(
        self,
        message: embedding_pb2.EmbedRequest | embedding_pb2.EmbedStreamRequest,
        caller: Caller,
        *,
        counted: bool = False,
    ) -> ItemContext:
        """Read what a message asks for. Raises ServingError if none of its items can be served."""
        return ItemContext(
            self._registry.find_bundle(message.model, message.version),
            to_options(message.options),
            to_job_options(message.options, caller),
            counted,
        )

    async def handle(
        self, item: embedding_pb2.Item, context: ItemContext
    ) -> embedding_pb2.ItemResult:
        """Embed one item; a fault of any kind becomes the result's error."""
        timings = Timings()
        model, options = context.model, context.options
        try:
            with answering(self._metrics, model.name, timings, "item"):
                content = to_content(item)
                if options.frames:
                    content = content.with_frames(options.frames)
                tower = model.tower_for(content)
                with tower.graph.unanswered(0 if context.counted else 1):
                    embedded = await tower.embed(content, options, context.job_options, timings)
                return to_result(
                    item.item_id,
                    embedded,
                    encoding=options.encoding,
                    timings=timings,
                    version=model.version,
                )
        except ServingError as error:
            drop_tracebacks(error)
            return to_error_result(item.item_id, error, timings, model.version)

    def refuse(self, item: embedding_pb2.Item, error: ServingError) -> embedding_pb2.ItemResult:
        """Answer an item whose message cannot be served."""
        count_refused(self._metrics, error)
        return to_error_result(item.item_id, error, Timings(), version="")
