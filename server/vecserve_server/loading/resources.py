"""Load resources: the threads and bounds that all models of a server share."""

from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from vecserve_server.engine.watchdog import Watchdog
from vecserve_server.loading.providers import Providers
from vecserve_server.modalities.content import Limits
from vecserve_server.scheduling.runner import Runner
from vecserve_server.serving.decoding.pool import DecodePool


@dataclass(frozen=True, slots=True)
class LoadResources:
    """What loaded models share: the threads, and the bounds that follow from the resources.

    `runner` runs batches on the processor's cores, `card_runner` those of a card. Without
    `decoders` the prepare threads decode.
    """

    runner: Runner
    card_runner: Runner
    watchdog: Watchdog
    prepare_threads: Executor
    decoders: DecodePool | None
    prepare_workers: int
    cores: int
    queue_delay_s: float
    queue_bytes: int
    cache: Path
    limits: Limits
    providers: Providers
