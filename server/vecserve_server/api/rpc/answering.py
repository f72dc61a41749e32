"""Outcome of one item or request: counted, logged if it is our fault, of a known kind."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from vecserve_server.api.rpc.handlers import to_serving_error
from vecserve_server.api.rpc.status import code_name
from vecserve_server.errors import ComputeFailed, ServingError
from vecserve_server.telemetry.metrics import Metrics
from vecserve_server.telemetry.timings import Timings

_log = logging.getLogger(__name__)

# What refused items are counted under whose model does not exist: callers could
# make up any number of names, and each would become a label.
UNKNOWN_MODEL = "unknown"


@contextmanager
def answering(metrics: Metrics, model: str, timings: Timings, what: str) -> Iterator[None]:
    """Count what is answered inside, an item or a request, for `model`.

    Raises ServingError only: what is unforeseen becomes ComputeFailed.
    """
    try:
        yield
    except Exception as problem:
        error = to_serving_error(problem, what, model)
        if isinstance(problem, ComputeFailed):
            _log.warning("model %s: %s", model, error.message)
        metrics.answered(model, code_name(error), timings)
        if error is problem:
            raise
        raise error from problem
    metrics.answered(model, "OK", timings)


def count_refused(metrics: Metrics, error: ServingError) -> None:
    """Count what is refused before a model is found."""
    metrics.answered(UNKNOWN_MODEL, code_name(error), Timings())
