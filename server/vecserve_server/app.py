"""Application wiring: starts the server, loads the models, stops without losing an item."""

import asyncio
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
from vecserve_server.engine.providers import cuda
from vecserve_server.engine.watchdog import Watchdog
from vecserve_server.errors import StartError
from vecserve_server.loading.providers import EVERY_MODEL, Providers
from vecserve_server.loading.resources import LoadResources
from vecserve_server.modalities.content import Limits
from vecserve_server.models.manager import ModelManager
from vecserve_server.models.registry import ModelRegistry
from vecserve_server.scheduling.runner import Runner
from vecserve_server.scheduling.time_limit import TimeLimit
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
        time_limit = TimeLimit(config.max_batch_s)
        loop = asyncio.get_running_loop()
        self._watchdog = Watchdog(
            time_limit.unmeasured_s,
            config.compute_cores,
            lambda: loop.call_soon_threadsafe(self._stuck_changed),
        )
        self._metrics.watch_oldest_batch(self._watchdog.oldest_s)
        self._runner = Runner(config.compute_cores, self._metrics.batch_ran, time_limit)
        self._card_runner = Runner(cuda.BATCHES_IN_FLIGHT, self._metrics.batch_ran, time_limit)
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
                card_runner=self._card_runner,
                watchdog=self._watchdog,
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
            strict=config.strict or config.require_provider is not None,
        )
        drain = Drain()
        regions = Regions(queue_bytes)
        self._health = Health()
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
            self._metrics,
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
        self._report_health()
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
        self._report_health()
        readiness = self._manager.readiness()
        count = sum(readiness.values())
        _log.info("serving %d models, ready in %.1f s", count, time.perf_counter() - started)
        if left_out := sorted(name for name, is_ready in readiness.items() if not is_ready):
            _log.error(
                "%d models are not served, for the reasons above and in the repository's index: "
                "%s; --strict would not have started",
                len(left_out),
                ", ".join(left_out),
            )

    async def stop(self) -> None:
        """Accept nothing more, answer what was accepted, and let go of everything."""
        _log.info("stopping: answering what was accepted")
        self._health.close()
        await self._rpc.stop()
        # What still runs, runs for nobody.
        self._watchdog.close()
        self._metrics_server.shutdown()
        self._metrics_server.server_close()
        self._metrics_thread.join()
        self._load_threads.shutdown()
        if self._decoders:
            await self._decoders.close()
        self._prepare_threads.shutdown()
        self._runner.close()
        self._card_runner.close()
        _log.info("stopped")

    def _stuck_changed(self) -> None:
        self._manager.give_up_loading(self._watchdog.stuck_models(loading=True))
        self._report_health()

    def _report_health(self) -> None:
        whole = self._manager.ready and not self._watchdog.is_blocked()
        stuck = self._watchdog.stuck_models()
        ready = {"": whole, embedding.SERVICE: whole, inference.SERVICE: whole}
        for name, is_ready in self._manager.readiness().items():
            ready[name] = is_ready and name not in stuck
        self._health.set(ready)


def _decoders(config: ServerConfig) -> DecodePool | None:
    """Return what decodes files; None where the kernel has not what bounds a process."""
    if sys.platform != "linux":
        return None
    return DecodePool(
        config.prepare_workers, config.max_decode_mb * 1024 * 1024, config.max_decode_s
    )
