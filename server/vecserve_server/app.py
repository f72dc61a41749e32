"""Application wiring: starts the server, loads the models, stops without losing an item."""

import gc
import logging
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from prometheus_client import start_http_server

from vecserve_server.api.embedding import service as embedding
from vecserve_server.api.embedding.items import ItemHandler
from vecserve_server.api.oip import service as inference
from vecserve_server.api.oip.requests import InferHandler
from vecserve_server.api.oip.shared_memory import Regions
from vecserve_server.api.rpc.drain import Drain
from vecserve_server.api.rpc.health import Health
from vecserve_server.api.rpc.server import RpcServer
from vecserve_server.config import ServerConfig
from vecserve_server.errors import StartError
from vecserve_server.loading.providers import EVERY_MODEL, Providers
from vecserve_server.loading.resources import LoadResources
from vecserve_server.modalities.content import Limits
from vecserve_server.models.manager import ModelManager
from vecserve_server.models.registry import ModelRegistry
from vecserve_server.scheduling.runner import Runner
from vecserve_server.serving.decoding.pool import DecodePool
from vecserve_server.telemetry.metrics import Metrics

_log = logging.getLogger(__name__)

# Objects made since the last collection that bring the next one.
_GC_THRESHOLD = 50_000


class App:
    """One server process. `start`, then `load`, then, at the end, `stop`."""

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._metrics = Metrics()
        self._runner = Runner(config.compute_cores, self._metrics.batch_ran)
        self._prepare_threads = ThreadPoolExecutor(
            config.prepare_workers, thread_name_prefix="prepare"
        )
        self._decoders = _decoders(config)
        self._load_threads = ThreadPoolExecutor(config.prepare_workers, thread_name_prefix="load")
        limits = Limits(
            max_text_bytes=config.max_text_kb * 1024,
            max_image_pixels=config.max_image_megapixels * 1_000_000,
            max_audio_s=config.max_audio_s,
            max_video_s=config.max_video_s,
            max_video_windows=config.max_video_windows,
        )
        queue_bytes = config.max_queue_mb * 1024 * 1024
        registry = ModelRegistry()
        self._manager = ModelManager(
            config.repository,
            LoadResources(
                runner=self._runner,
                prepare_threads=self._prepare_threads,
                decoders=self._decoders,
                prepare_workers=config.prepare_workers,
                cores=config.compute_cores,
                queue_delay_s=config.queue_delay_us / 1e6,
                cache=config.cache / "compiled",
                queue_bytes=queue_bytes,
                limits=limits,
                providers=Providers(config.provider, config.require_provider),
            ),
            registry,
            self._metrics,
            self._load_threads,
            changed=self._report_health,
        )
        drain = Drain()
        regions = Regions()
        self._health = Health()
        self._stopping = False
        self._rpc = RpcServer(
            config,
            {
                embedding.SERVICE: embedding.EmbeddingService(
                    drain.closed,
                    registry,
                    ItemHandler(registry, self._metrics),
                    limits,
                    max_stream_items=config.max_stream_items,
                ).handler(),
                inference.SERVICE: inference.InferenceService(
                    drain.closed,
                    self._manager,
                    registry,
                    InferHandler(registry, regions, self._metrics),
                    regions,
                    max_stream_items=config.max_stream_items,
                    max_stream_bytes=queue_bytes,
                ).handler(),
            },
            drain,
            self._health,
        )

    async def start(self) -> None:
        """Listen, not ready yet. Raises StartError, BundleError."""
        count = await self._manager.read()
        models = self._manager.readiness().keys()
        if unknown := sorted(self._config.provider.keys() - models - {EVERY_MODEL}):
            raise StartError(
                f"--provider names {', '.join(unknown)}, but the models in "
                f"{self._config.repository} are {', '.join(sorted(models))}"
            )
        await self._report_health()
        port = self._rpc.bind()
        metrics_address = f"{self._config.host}:{self._config.metrics_port}"
        try:
            self._metrics_server, self._metrics_thread = start_http_server(
                self._config.metrics_port, self._config.host, self._metrics.registry
            )
        except OSError as error:
            raise StartError(
                f"cannot serve metrics on {metrics_address} ({error.strerror}): "
                "choose another with --metrics-port"
            ) from error
        await self._rpc.start()
        _log.info("listening on %s:%d, loading %d models", self._config.host, port, count)
        _log.info(
            "metrics on http://%s:%d/metrics", self._config.host, self._metrics_server.server_port
        )

    async def load(self) -> None:
        """Load every model, then report readiness. Raises what loading one raises."""
        started = time.perf_counter()
        await self._manager.load_all()
        # What lives now lives until the end: looking through it at every
        # collection took a tenth of the event loop's time.
        gc.freeze()
        gc.set_threshold(_GC_THRESHOLD)
        await self._report_health()
        count = len(self._manager.readiness())
        _log.info("serving %d models, ready in %.1f s", count, time.perf_counter() - started)

    async def stop(self) -> None:
        """Accept nothing more, answer what was accepted, and let go of everything."""
        _log.info("stopping: answering what was accepted")
        self._stopping = True
        await self._report_health()
        await self._rpc.stop()
        self._metrics_server.shutdown()
        self._metrics_server.server_close()
        self._metrics_thread.join()
        self._load_threads.shutdown()
        if self._decoders:
            await self._decoders.close()
        self._prepare_threads.shutdown()
        self._runner.close()
        _log.info("stopped")

    async def _report_health(self) -> None:
        whole = self._manager.ready
        ready = {"": whole, embedding.SERVICE: whole, inference.SERVICE: whole}
        ready |= self._manager.readiness()
        await self._health.set({name: one and not self._stopping for name, one in ready.items()})


def _decoders(config: ServerConfig) -> DecodePool | None:
    """Return what decodes files; None where the kernel has not what bounds a process."""
    if sys.platform != "linux":
        return None
    return DecodePool(
        config.prepare_workers, config.max_decode_mb * 1024 * 1024, config.max_decode_s
    )
