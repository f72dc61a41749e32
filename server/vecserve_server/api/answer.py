"""One item in, one ItemResult out, whatever happens in between."""

import logging

from vecserve.v1 import embedding_pb2
from vecserve_server.api.caller import Caller, to_terms
from vecserve_server.api.convert import to_content, to_error_result, to_options, to_result
from vecserve_server.api.status import code_name
from vecserve_server.errors import ComputeFailed, ServingError
from vecserve_server.serving.models import Models
from vecserve_server.serving.tower import Timings
from vecserve_server.telemetry.metrics import Metrics

_log = logging.getLogger(__name__)


class Answerer:
    """Answers items. Never raises, but for the cancellation of its caller."""

    def __init__(self, models: Models, metrics: Metrics) -> None:
        self._models = models
        self._metrics = metrics

    async def answer(
        self,
        item: embedding_pb2.Item,
        model_name: str,
        version: str,
        options: embedding_pb2.EmbedOptions,
        caller: Caller,
    ) -> embedding_pb2.ItemResult:
        """Embed one item; a fault of any kind becomes the result's error."""
        timings = Timings()
        served_by = ""
        try:
            wanted = to_options(options)
            terms = to_terms(options, caller)
            model = self._models.find_ready(model_name, version)
            served_by = model.manifest.version
            content = to_content(item)
            embedded = await model.tower_for(content).embed(content, wanted, terms, timings)
            result = to_result(
                item.item_id,
                embedded,
                half_precision=wanted.half_precision,
                timings=timings,
                version=served_by,
            )
        except ServingError as error:
            return self._refused(item.item_id, error, timings, model_name, served_by)
        except Exception:
            _log.exception("item of model %s failed in an unforeseen way", model_name)
            unforeseen = ComputeFailed(
                "UNFORESEEN", "the server failed on this item; its log says how"
            )
            return self._refused(item.item_id, unforeseen, timings, model_name, served_by)
        self._metrics.answered(model_name, "OK", timings)
        return result

    def _refused(
        self, item_id: str, error: ServingError, timings: Timings, model_name: str, version: str
    ) -> embedding_pb2.ItemResult:
        if isinstance(error, ComputeFailed):
            _log.warning("model %s: %s", model_name, error.message)
        # A name no model has must not become a label: callers could make up any number.
        label = model_name if version else "unknown"
        self._metrics.answered(label, code_name(error), timings)
        return to_error_result(item_id, error, timings, version)
