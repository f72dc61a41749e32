"""The models of a repository: loading, replacing and unloading them while requests run."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Executor
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TypeVar

from vecserve_server.engine.padding import MASK_INPUT
from vecserve_server.engine.session import GraphError
from vecserve_server.errors import InvalidItem, LoadFailed, ModelNotFound
from vecserve_server.loading.bundle import load_towers
from vecserve_server.loading.onnx_file import load_onnx_file
from vecserve_server.loading.resources import LoadResources
from vecserve_server.models.catalog import Catalog
from vecserve_server.models.models import Model, Models
from vecserve_server.repository.bundle import Bundle
from vecserve_server.repository.config import CONFIG_FILE
from vecserve_server.repository.errors import BundleError
from vecserve_server.repository.finder import Found, find_models, read_model
from vecserve_server.repository.onnx_file import OnnxFile
from vecserve_server.serving.bundle_model import BundleModel, describe
from vecserve_server.serving.graph import ServedGraph
from vecserve_server.serving.model import ServedModel
from vecserve_server.serving.tensor_model import TensorModel
from vecserve_server.serving.tower import LoadedTower
from vecserve_server.telemetry.metrics import Metrics

_log = logging.getLogger(__name__)

T = TypeVar("T")

# Rows a tensor request may have, in full batches of the bundle's own size: the
# rows run together, so this bounds the memory that one request takes.
_BATCHES_PER_REQUEST = 4

_INSTEAD_OF_TRITONS = (
    f"write a {CONFIG_FILE} beside it; there max_batch_size is the same, queue_delay_us is "
    "max_queue_delay_microseconds of dynamic_batching, instances is count of instance_group, "
    "execution_provider is execution_accelerators, warm_up is model_warmup"
)


class State(StrEnum):
    """Where a model is on its way. The names are Triton's."""

    LOADING = "LOADING"
    READY = "READY"
    UNLOADING = "UNLOADING"
    UNAVAILABLE = "UNAVAILABLE"


@dataclass(frozen=True, slots=True)
class InService:
    """What one version on disk is served by."""

    models: tuple[ServedModel, ...]
    graphs: tuple[ServedGraph, ...]
    towers: dict[str, LoadedTower]


@dataclass(slots=True)
class Version:
    """One version on disk, and what became of it."""

    found: Found
    state: State = State.LOADING
    reason: str = ""
    service: InService | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """What requests call it: a bundle also goes by each of its graphs."""
        if isinstance(self.found, OnnxFile):
            return (self.found.name,)
        kinds = [tower.input.kind for tower in self.found.manifest.towers]
        return (self.found.name, *(f"{self.found.name}.{kind}" for kind in kinds))


@dataclass(frozen=True, slots=True)
class Listing:
    """One line of the index."""

    name: str
    version: str
    state: State
    reason: str


@dataclass(slots=True)
class ModelManager:
    """Fills `models` (typed items) and `catalog` (tensors) from a repository.

    `threads` read and load. `changed` is awaited whenever a model became ready
    or stopped being so. Lives on one event loop.
    """

    repository: Path
    resources: LoadResources
    models: Models
    catalog: Catalog
    metrics: Metrics
    threads: Executor
    changed: Callable[[], Awaitable[None]]
    _versions: dict[tuple[str, str], Version] = field(default_factory=dict)
    _one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)
    _retiring: set[asyncio.Task[None]] = field(default_factory=set)

    async def read(self) -> int:
        """Read and check the repository, load nothing yet; return how many models it has.

        Raises BundleError.
        """
        folders = await self._in_thread(lambda: find_models(self.repository))
        for found in await self._read_all(folders):
            version = Version(found)
            self._refuse_taken_names(version)
            self._versions[found.name, found.version] = version
            if isinstance(found, Bundle):
                self.models.put(Model(found.manifest))
            for name in version.names:
                self.catalog.withdraw(name, found.version, "is still loading; try again in seconds")
        return len(self._versions)

    async def load_all(self) -> None:
        """Load what `read` found. Raises what loading one raises."""

        async with self._one_at_a_time:
            # One after the other: each is measured, and needs the cores for itself.
            for version in self._versions.values():
                began = time.perf_counter()
                self._put(version, await self._load(version.found))
                _log_ready(version, time.perf_counter() - began)
                await self.changed()

    @property
    def ready(self) -> bool:
        """Whether every model has been loaded; one that was unloaded counts."""
        return all(version.state is not State.LOADING for version in self._versions.values())

    def readiness(self) -> dict[str, bool]:
        """Return whether each model answers, in any version, by the name of its folder."""
        names: dict[str, bool] = {}
        for (name, _), version in self._versions.items():
            names[name] = names.get(name, False) or version.state is State.READY
        return names

    async def load(self, name: str) -> None:
        """Read a model's versions from disk and put them in the place of those served.

        What was accepted before is answered by the old ones. Raises
        ModelNotFound, and LoadFailed: the old ones then stay.
        """
        async with self._one_at_a_time:
            self._refuse_part(name)
            try:
                folders = await self._in_thread(lambda: find_models(self.repository))
                mine = [folder for folder in folders if folder.parent.name == name]
                if not mine:
                    raise ModelNotFound(
                        "MODEL_NOT_FOUND", f"the repository holds no model {name!r}"
                    )
                versions = [Version(found) for found in await self._read_all(mine)]
                for version in versions:
                    self._refuse_taken_names(version)
                services = [await self._load(version.found) for version in versions]
            except (BundleError, GraphError) as error:
                raise LoadFailed("LOAD_FAILED", str(error)) from error
            kept = {version.found.version for version in versions}
            for version in self._of(name):
                if version.found.version not in kept:
                    self._retire(version, "is no longer in the repository")
            for version, service in zip(versions, services, strict=True):
                old = self._versions.get((name, version.found.version))
                if old and old.service:
                    self.models.remove(name, version.found.version)
                    self._drain(old.service, forget=False)
                self._versions[name, version.found.version] = version
                self._put(version, service)
                _log.info("loaded again: %s version %s", name, version.found.version)
            await self.changed()

    async def unload(self, name: str) -> None:
        """Let a model accept nothing more, and wait until all it accepted is answered.

        Raises ModelNotFound.
        """
        async with self._one_at_a_time:
            self._refuse_part(name)
            versions = self._of(name)
            if not versions:
                raise ModelNotFound("MODEL_NOT_FOUND", f"this server has no model {name!r}")
            drains = [
                drain
                for version in versions
                if (drain := self._retire(version, "is unloaded; load it again"))
            ]
            await self.changed()
            # A caller that leaves must not leave the model half unloaded.
            await asyncio.gather(*(asyncio.shield(drain) for drain in drains))

    async def index(self) -> list[Listing]:
        """List what is served and what lies in the repository, by name, then version."""
        listings = [
            Listing(name, version.found.version, version.state, version.reason)
            for version in self._versions.values()
            for name in version.names
        ]
        try:
            folders = await self._in_thread(lambda: find_models(self.repository))
        except BundleError:  # nothing lies there any more
            folders = []
        listings += [
            Listing(folder.parent.name, folder.name, State.UNAVAILABLE, "not loaded")
            for folder in folders
            if (folder.parent.name, folder.name) not in self._versions
        ]
        return sorted(listings, key=lambda listing: (listing.name, listing.version))

    def _of(self, name: str) -> list[Version]:
        return [version for version in self._versions.values() if version.found.name == name]

    async def _read_all(self, folders: list[Path]) -> list[Found]:
        all_found = await asyncio.gather(
            *(self._in_thread(partial(read_model, folder)) for folder in folders)
        )
        plain = [found for found in all_found if isinstance(found, OnnxFile)]
        for path in sorted({path for model in plain for path in model.triton_configs}):
            _log.warning("%s is not read: %s", path, _INSTEAD_OF_TRITONS)
        return all_found

    async def _load(self, found: Found) -> InService:
        if isinstance(found, OnnxFile):
            put_plain = await self._in_thread(lambda: load_onnx_file(found, self.resources))
            model, graph = put_plain()
            return InService((model,), (graph,), {})
        put_towers = await self._in_thread(lambda: load_towers(found, self.resources))
        towers = put_towers()
        raw = BundleModel(
            found.manifest,
            towers,
            queue_delay_s=self.resources.queue_delay_s,
            instances=self.resources.cores,
        )
        models: list[ServedModel] = [raw]
        models += [self._as_graph(found, kind, tower) for kind, tower in towers.items()]
        return InService(tuple(models), tuple(tower.graph for tower in towers.values()), towers)

    def _as_graph(self, bundle: Bundle, kind: str, tower: LoadedTower) -> TensorModel:
        text = tower.tower.input if tower.tower.input.kind == "text" else None
        return TensorModel(
            f"{bundle.name}.{kind}",
            bundle.version,
            tower.graph,
            filename=tower.tower.graph,
            about=describe(bundle.manifest),
            max_batch_size=_BATCHES_PER_REQUEST * tower.tower.max_batch_rows,
            queue_delay_s=self.resources.queue_delay_s,
            instances=self.resources.cores,
            queue_bytes=self.resources.queue_bytes,
            length_input=MASK_INPUT if text else None,
            max_length=text.max_tokens if text else None,
        )

    def _put(self, version: Version, service: InService) -> None:
        version.service = service
        version.state = State.READY
        if isinstance(version.found, Bundle):
            self.models.put(Model(version.found.manifest, service.towers))
        for model in service.models:
            self.catalog.put(model)
        for graph in service.graphs:
            self.metrics.watch_unanswered(graph.name, graph.count_unanswered)

    def _retire(self, version: Version, why: str) -> asyncio.Task[None] | None:
        """Take a version out of service; return the task that lets go of it, if there is need."""
        if version.state is not State.READY or version.service is None:
            return None
        found = version.found
        if isinstance(found, Bundle):
            self.models.remove(found.name, found.version)
        for name in version.names:
            self.catalog.withdraw(name, found.version, why)
        version.state = State.UNLOADING
        service, version.service = version.service, None

        async def let_go() -> None:
            await self._drain(service, forget=True)
            version.state = State.UNAVAILABLE
            version.reason = why
            _log.info("unloaded: %s version %s", found.name, found.version)

        return self._in_background(let_go())

    def _drain(self, service: InService, *, forget: bool) -> asyncio.Task[None]:
        """Let go of graphs once all they accepted is answered."""

        async def drain() -> None:
            for graph in service.graphs:
                await graph.retire()
                if forget:
                    self.metrics.forget(graph.name)

        return self._in_background(drain())

    def _in_background(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)
        return task

    def _refuse_part(self, name: str) -> None:
        """Raise InvalidItem for a bundle's graph, which comes and goes with its bundle."""
        for version in self._versions.values():
            if name != version.found.name and name in version.names:
                raise InvalidItem(
                    "PART_OF_MODEL",
                    f"{name!r} is a part of model {version.found.name!r}: name that one",
                )

    def _refuse_taken_names(self, version: Version) -> None:
        for other in self._versions.values():
            taken = set(version.names) & set(other.names)
            if other.found.name != version.found.name and taken:
                raise BundleError(
                    f"models {other.found.name!r} and {version.found.name!r} would both be served "
                    f"as {', '.join(sorted(taken))}: rename one"
                )

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.threads, work)


def _log_ready(version: Version, seconds: float) -> None:
    found = version.found
    if isinstance(found, OnnxFile):
        _log.info("ready: %s version %s, tensors, in %.1f s", found.name, found.version, seconds)
        return
    manifest = found.manifest
    _log.info(
        "ready: %s version %s, %s, %d dimensions, %s, in %.1f s%s",
        manifest.name,
        manifest.version,
        " and ".join(tower.input.kind for tower in manifest.towers),
        manifest.dimensions,
        manifest.precision,
        seconds,
        "" if manifest.trained else " - UNTRAINED: random weights, meaningless vectors",
    )
