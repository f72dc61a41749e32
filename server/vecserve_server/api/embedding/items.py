"""Item handler: one item in, one ItemResult out, whatever happens in between."""

import logging
from dataclasses import dataclass

from vecserve.v1 import embedding_pb2
from vecserve_server.api.embedding.messages import (
    to_content,
    to_error_result,
    to_job_options,
    to_options,
    to_result,
)
from vecserve_server.api.rpc.caller import Caller
from vecserve_server.api.rpc.status import code_name
from vecserve_server.errors import ComputeFailed, ServingError
from vecserve_server.models.registry import ModelRegistry
from vecserve_server.scheduling.options import JobOptions
from vecserve_server.serving.bundle_model import BundleModel
from vecserve_server.serving.options import EmbedOptions
from vecserve_server.telemetry.metrics import Metrics
from vecserve_server.telemetry.timings import Timings

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ItemContext:
    """What the items of one message have in common."""

    model: BundleModel
    options: EmbedOptions
    job_options: JobOptions


class ItemHandler:
    """Answers items. `answer` never raises, but for the cancellation of its caller."""

    def __init__(self, registry: ModelRegistry, metrics: Metrics) -> None:
        self._registry = registry
        self._metrics = metrics

    def order(
        self,
        message: embedding_pb2.EmbedRequest | embedding_pb2.EmbedStreamRequest,
        caller: Caller,
    ) -> ItemContext | ServingError:
        """Read what a message asks for, or return why none of its items can be answered."""
        try:
            return ItemContext(
                self._registry.find_bundle(message.model, message.version),
                to_options(message.options),
                to_job_options(message.options, caller),
            )
        except ServingError as error:
            return error

    async def answer(
        self, item: embedding_pb2.Item, order: ItemContext | ServingError
    ) -> embedding_pb2.ItemResult:
        """Embed one item; a fault of any kind becomes the result's error."""
        timings = Timings()
        if isinstance(order, ServingError):
            return self._refused(item.item_id, order, timings, None)
        model, options = order.model, order.options
        try:
            content = to_content(item)
            tower = model.tower_for(content)
            embedded = await tower.embed(content, options, order.job_options, timings)
            result = to_result(
                item.item_id,
                embedded,
                half_precision=options.half_precision,
                timings=timings,
                version=model.version,
            )
        except ServingError as error:
            return self._refused(item.item_id, error, timings, model)
        except Exception:
            _log.exception("item of model %s failed in an unforeseen way", model.name)
            unforeseen = ComputeFailed(
                "UNFORESEEN", "the server failed on this item; its log says how"
            )
            return self._refused(item.item_id, unforeseen, timings, model)
        self._metrics.answered(model.name, "OK", timings)
        return result

    def _refused(
        self, item_id: str, error: ServingError, timings: Timings, model: BundleModel | None
    ) -> embedding_pb2.ItemResult:
        # A name no model has must not become a label: callers could make up any number.
        name, version = (model.name, model.version) if model else ("unknown", "")
        if isinstance(error, ComputeFailed):
            _log.warning("model %s: %s", name, error.message)
        self._metrics.answered(name, code_name(error), timings)
        return to_error_result(item_id, error, timings, version)
