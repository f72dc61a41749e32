"""Command `vecserve models`."""

from rich.console import Console
from rich.table import Table

from vecserve._channel import DEFAULT_ADDRESS
from vecserve.cli.terminal import Server, Timeout
from vecserve.client import Client
from vecserve.models import Modality, ModelInfo

_PIPE_WIDTH = 300
"""Columns of a table that no terminal shows: enough not to fold."""


def models(server: Server = DEFAULT_ADDRESS, timeout: Timeout = None) -> None:
    """List the server's models.

    A model marked UNTRAINED has random weights: its vectors mean nothing.
    """
    with Client(server) as client:
        found = client.models(timeout=timeout)
    table = Table(box=None, pad_edge=False)
    for column in ("model", "version", "state", "weights", "takes", "dimensions", "licence"):
        table.add_column(column, overflow="fold")
    table.add_column("source", overflow="fold", ratio=1)
    for model in found:
        table.add_row(*_cells(model))
    console = Console()
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    console.print(table)


def _cells(model: ModelInfo) -> list[str]:
    return [
        model.name,
        model.version,
        model.state,
        "trained" if model.trained else "[bold yellow]UNTRAINED[/]",
        ", ".join(_takes(modality) for modality in model.modalities),
        str(model.dimensions),
        model.license,
        model.source,
    ]


def _takes(modality: Modality) -> str:
    if modality.max_tokens:
        prompts = f"; prompts: {', '.join(modality.prompts)}" if modality.prompts else ""
        return f"{modality.name} (to {modality.max_tokens} tokens{prompts})"
    if modality.max_seconds:
        return f"{modality.name} (to {modality.max_seconds:g} s)"
    if modality.max_frames:
        return f"{modality.name} (or to {modality.max_frames} frames of a video)"
    return modality.name
