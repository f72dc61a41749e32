"""Checks that a bundle's graph is the one its manifest describes."""

from pathlib import Path

from vecserve_server.engine.session import GraphError, Session
from vecserve_server.repository.manifest import Tower

_FEEDS_OF_KIND = {
    "text": {"input_ids": "tensor(int64)", "attention_mask": "tensor(int64)"},
    "image": {"pixels": "tensor(uint8)"},
    "audio": {"waveform": "tensor(float)", "lengths": "tensor(int64)"},
}


def check_graph(session: Session, tower: Tower, path: Path) -> None:
    """Raise GraphError unless the graph has the tower's inputs and outputs."""
    inputs = {value.name: value.type for value in session.inputs}
    expected = _FEEDS_OF_KIND[tower.input.kind]
    if inputs != expected:
        raise GraphError(f"{path} takes {inputs}, a {tower.input.kind} graph takes {expected}")
    outputs = {value.name for value in session.outputs}
    if missing := sorted({output.name for output in tower.outputs} - outputs):
        raise GraphError(f"{path} has no output {', '.join(missing)}")
