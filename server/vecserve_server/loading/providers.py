"""Provider choice: what a model runs on, as its operator says, or else the best there is."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from vecserve_server.engine.session import GraphError, Session
from vecserve_server.repository.config import ModelConfig, Provider

_log = logging.getLogger(__name__)

EVERY_MODEL = "*"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Providers:
    """What the flags say: --provider, by model or EVERY_MODEL, and --require-provider."""

    chosen: Mapping[str, Provider]
    required: Provider | None

    def choice(self, model: str, config: ModelConfig) -> Provider | None:
        """Return what a model is to run on, None if nobody says; the narrower word wins.

        Raises GraphError if that is not what is required.
        """
        choice = (
            self.chosen.get(model)
            or config.execution_provider
            or self.chosen.get(EVERY_MODEL)
            or self.required
        )
        if self.required not in (None, choice):
            raise GraphError(
                f"--require-provider {self.required}, but {model} is to run on {choice}: change "
                "its --provider, or execution_provider in its config.json"
            )
        return choice


def load_on_choice(
    name: str,
    choice: Provider | None,
    default: Provider,
    load: Callable[[Provider], T],
) -> T:
    """Load the graph `name` on `choice`; without one on `default`, and on the cpu if that fails.

    Raises GraphError: what `load` raises on the provider chosen, or on the cpu.
    """
    if choice:
        return load(choice)
    try:
        return load(default)
    except GraphError as error:
        if default == "cpu":
            raise
        loaded = load("cpu")
        _log.warning("%s runs on the cpu: %s", name, error)
        return loaded


def log_nodes(name: str, session: Session) -> None:
    """Say where the nodes of the graph `name` landed; warn if not all did where they should."""
    nodes = session.nodes
    landed = ", ".join(f"{count} nodes on {provider}" for provider, count in nodes.most_common())
    _log.info("%s: %s", name, landed)
    if elsewhere := nodes.total() - nodes[session.provider]:
        _log.warning(
            "%s: %d of %d nodes do not run on %s; what passes between them and the others may be "
            "copied in every batch",
            name,
            elsewhere,
            nodes.total(),
            session.provider,
        )
