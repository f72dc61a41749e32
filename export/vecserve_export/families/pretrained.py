"""Loading of transformers models: every weight present, nothing printed."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from transformers.utils import logging

from vecserve_export.checkpoint import Checkpoint
from vecserve_export.errors import Unsupported


def load(model_class: Any, checkpoint: Checkpoint, **options: Any) -> Any:
    """Return a model of `model_class` in float32, ready to infer.

    Raises Unsupported if the folder cannot be read, or if it lacks weights of
    the model: transformers would fill in random ones and only log it.
    """
    try:
        model, report = model_class.from_pretrained(
            checkpoint.folder,
            local_files_only=True,
            dtype=torch.float32,
            output_loading_info=True,
            **options,
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise Unsupported(f"{checkpoint.source.location} cannot be read: {error}") from error
    if missing := sorted(report["missing_keys"]):
        raise Unsupported(
            f"{checkpoint.source.location} lacks {len(missing)} weights of "
            f"{model_class.__name__}, {missing[0]} among them"
        )
    return model.eval()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' progress bars and its reports of weights not needed."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
