"""Wires the server together: starts it, loads the models, stops it without losing an item."""

import asyncio
import gc
import logging
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import start_http_server

from vecserve_server.api.answer import Answerer
from vecserve_server.api.embedding import SERVICE, EmbeddingService
from vecserve_server.config import ServerConfig
from vecserve_server.pipelines.base import Limits
from vecserve_server.repository.reader import Bundle, find_bundles, read_bundle
from vecserve_server.scheduling.runner import Runner
from vecserve_server.serving.loader import Machine, load_towers
from vecserve_server.serving.models import Model, Models
from vecserve_server.telemetry.metrics import Metrics

_log = logging.getLogger(__name__)

# Objects made since the last collection that bring the next one.
_GC_THRESHOLD = 50_000


class StartError(Exception):
    """The server cannot start; the message says why and what to do."""


class App:
    """One server process. `start`, then `load`, then, at the end, `stop`."""

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._metrics = Metrics()
        self._models = Models()
        self._runner = Runner(config.compute_cores, self._metrics.batch_ran)
        self._prepare_threads = ThreadPoolExecutor(
            config.prepare_workers, thread_name_prefix="prepare"
        )
        self._limits = Limits(
            max_text_bytes=config.max_text_kb * 1024,
            max_image_pixels=config.max_image_megapixels * 1_000_000,
            max_audio_s=config.max_audio_s,
        )
        self._service = EmbeddingService(
            self._models,
            Answerer(self._models, self._metrics),
            self._limits,
            max_stream_items=config.max_stream_items,
        )
        self._health = health.aio.HealthServicer()
        aging = [
            ("grpc.max_connection_age_ms", config.max_connection_age_s * 1000),
            ("grpc.max_connection_age_grace_ms", round(config.shutdown_grace_s * 1000)),
        ]
        self._server = grpc.aio.server(
            options=[
                *(aging if config.max_connection_age_s else []),
                ("grpc.max_receive_message_length", config.max_message_mb * 1024 * 1024),
                # Two servers on one port would share its callers silently.
                ("grpc.so_reuseport", 0),
                # Clients behind load balancers keep idle connections alive.
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
                ("grpc.keepalive_permit_without_calls", 1),
            ]
        )

    async def start(self) -> None:
        """Listen, not ready yet. Raises StartError, BundleError."""
        loop = asyncio.get_running_loop()
        bundles = await loop.run_in_executor(None, self._read_bundles)
        for bundle in bundles:
            self._models.add(Model(bundle.manifest))
        self._bundles = bundles
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._server.add_generic_rpc_handlers((self._service.handler(),))
        reflection.enable_server_reflection(
            (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server
        )
        address = f"{self._config.host}:{self._config.port}"
        try:
            port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise StartError(
                f"cannot listen on {address}; is another server there? choose one with --port"
            ) from error
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
        await self._server.start()
        _log.info("listening on %s:%d, loading %d models", self._config.host, port, len(bundles))
        _log.info(
            "metrics on http://%s:%d/metrics", self._config.host, self._metrics_server.server_port
        )

    async def load(self) -> None:
        """Load every model, then report readiness. Raises what loading one raises."""
        started = time.perf_counter()
        loop = asyncio.get_running_loop()
        machine = Machine(
            runner=self._runner,
            prepare_threads=self._prepare_threads,
            prepare_workers=self._config.prepare_workers,
            cores=self._config.compute_cores,
            queue_delay_s=self._config.queue_delay_us / 1e6,
            cache=self._config.cache / "compiled",
            queue_bytes=self._config.max_queue_mb * 1024 * 1024,
            limits=self._limits,
        )

        async def load_one(bundle: Bundle) -> None:
            began = time.perf_counter()
            into_service = await loop.run_in_executor(
                self._prepare_threads, load_towers, bundle, machine
            )
            manifest = bundle.manifest
            model = self._models.find(manifest.name, manifest.version)
            model.towers = into_service()
            for tower in model.towers.values():
                self._metrics.watch_unanswered(tower.graph.name, tower.graph.count_unanswered)
            _log.info(
                "ready: %s version %s, %s, %d dimensions, %s, in %.1f s%s",
                manifest.name,
                manifest.version,
                " and ".join(model.towers),
                manifest.dimensions,
                manifest.precision,
                time.perf_counter() - began,
                "" if manifest.trained else " - UNTRAINED: random weights, meaningless vectors",
            )

        # One at a time: each is measured, and needs the cores for itself.
        for bundle in self._bundles:
            await load_one(bundle)
        # What lives now lives until the end: looking through it at every
        # collection took a tenth of the event loop's time.
        gc.freeze()
        gc.set_threshold(_GC_THRESHOLD)
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)
        _log.info(
            "serving %d models, ready in %.1f s", len(self._bundles), time.perf_counter() - started
        )

    async def stop(self) -> None:
        """Accept nothing more, answer what was accepted, and let go of everything."""
        _log.info("stopping: answering what was accepted")
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        self._service.stopping.set()
        await self._server.stop(self._config.shutdown_grace_s)
        self._metrics_server.shutdown()
        self._metrics_server.server_close()
        self._metrics_thread.join()
        self._prepare_threads.shutdown()
        self._runner.close()
        _log.info("stopped")

    def _read_bundles(self) -> list[Bundle]:
        folders = find_bundles(self._config.repository)
        return list(self._prepare_threads.map(read_bundle, folders))

    async def _set_health(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for name in ("", SERVICE, *(model.manifest.name for model in self._models.all())):
            await self._health.set(name, status)
