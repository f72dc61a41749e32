"""Model lifecycle: loading, replacing and unloading a repository's models while requests run."""

import asyncio
import logging
import time
from collections.abc import Callable, Container, Coroutine
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from vecserve_server.engine.session import GraphError
from vecserve_server.errors import InvalidItem, LoadFailed, ModelNotFound, drop_tracebacks
from vecserve_server.loading.bundle import LoadedBundle, load_bundle
from vecserve_server.loading.onnx_file import LoadedOnnxFile, load_onnx_file
from vecserve_server.loading.resources import LoadResources
from vecserve_server.models.registry import ModelRegistry, ModelVersion, State
from vecserve_server.reasons import Reason
from vecserve_server.repository.config import CONFIG_FILE
from vecserve_server.repository.errors import BundleError
from vecserve_server.repository.finder import Found, read_model, scan
from vecserve_server.repository.onnx_file import OnnxFile
from vecserve_server.serving.model import InService
from vecserve_server.telemetry.metrics import Metrics
from vecserve_server.wording import quoted

_log = logging.getLogger(__name__)

T = TypeVar("T")

_INSTEAD_OF_TRITONS = (
    f"write a {CONFIG_FILE} beside it; there max_batch_size is the same, queue_delay_us is "
    "max_queue_delay_microseconds of dynamic_batching, instances is count of instance_group, "
    "execution_provider is execution_accelerators, warm_up is model_warmup"
)


@dataclass(frozen=True, slots=True)
class Listing:
    """One line of the index."""

    name: str
    version: str
    state: State
    reason: str


@dataclass(slots=True)
class ModelManager:
    """Fills `registry` from a repository; what cannot be served is left out, if not `strict`.

    `threads` read and load. `changed` is called whenever a model became ready
    or stopped being so. Lives on one event loop.
    """

    repository: Path
    resources: LoadResources
    registry: ModelRegistry
    metrics: Metrics
    threads: Executor
    changed: Callable[[], None]
    strict: bool
    _one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)
    _loading: "tuple[str, asyncio.Future[None]] | None" = None
    _draining: set[asyncio.Task[None]] = field(default_factory=set)

    async def read(self) -> int:
        """Read and check the repository, load nothing yet; return how many models it has.

        Raises BundleError.
        """
        lying = await self._in_thread(lambda: scan(self.repository))
        for one in lying.unserved:
            self._refuse(one.name, one.version, one.reason)
        for folder, found in zip(lying.folders, await self._read_all(lying.folders), strict=True):
            if isinstance(found, BundleError):
                self._refuse(folder.parent.name, folder.name, str(found))
                continue
            version = ModelVersion(found)
            try:
                self._refuse_taken_names(version)
            except BundleError as error:
                self._refuse(found.name, found.version, str(error))
                continue
            self.registry.put(version)
        self._refuse_to_serve_nothing()
        return len(self.registry.all())

    async def load_all(self) -> None:
        """Load what `read` found.

        Raises BundleError if nothing can be served, and if `strict` what loading one raises.
        """
        async with self._one_at_a_time:
            # One after the other: each is measured, and needs the cores for itself.
            for version in self.registry.all():
                began = time.perf_counter()
                try:
                    self._serve(version, await self._load(version.found))
                    _log_ready(version, time.perf_counter() - began)
                # Whatever is wrong with one model is no reason to leave the others out.
                except Exception as error:
                    if self.strict:
                        raise
                    version.state = State.UNAVAILABLE
                    version.reason = _cannot(error)
                    expected = isinstance(error, BundleError | GraphError)
                    _log.error(
                        "not served: %s version %s: %s",
                        version.found.name,
                        version.found.version,
                        error,
                        exc_info=None if expected else error,
                    )
                self.changed()
            self._refuse_to_serve_nothing()

    @property
    def ready(self) -> bool:
        """Whether every model has been loaded; one that was unloaded counts."""
        return all(version.state is not State.LOADING for version in self.registry.all())

    def readiness(self) -> dict[str, bool]:
        """Return whether each model answers, in any version, by the name of its folder."""
        names: dict[str, bool] = {}
        for version in self.registry.all():
            name = version.found.name
            names[name] = names.get(name, False) or version.state is State.READY
        for name, _ in self.registry.refused:
            names.setdefault(name, False)
        return names

    async def load(self, name: str) -> None:
        """Read a model's versions from disk and put them in the place of those served.

        What was accepted before is answered by the old ones. A load that has begun
        goes on if its caller leaves. Raises ModelNotFound, and LoadFailed: the old
        ones then stay.
        """
        await self._one_at_a_time.acquire()
        loading = self._in_background(self._load_again(name))

        def ended(task: asyncio.Task[None]) -> None:
            self._one_at_a_time.release()
            if not task.cancelled() and isinstance(error := task.exception(), LoadFailed):
                _log.warning("not loaded again: %s: %s", name, error)

        loading.add_done_callback(ended)
        # Who leaves must not leave a thread that loads beside the next load.
        await asyncio.shield(loading)

    async def _load_again(self, name: str) -> None:
        self._refuse_part(name)
        try:
            lying = await self._in_thread(lambda: scan(self.repository))
            unserved = {
                (name, one.version): one.reason for one in lying.unserved if one.name == name
            }
            mine = [folder for folder in lying.folders if folder.parent.name == name]
            if not mine and unserved:
                raise BundleError("; ".join(unserved.values()))
            if not mine:
                raise ModelNotFound(
                    Reason.MODEL_NOT_FOUND, f"the repository holds no model {quoted(name)}"
                )
            versions = []
            for found in await self._read_all(mine):
                if isinstance(found, BundleError):
                    raise found
                versions.append(ModelVersion(found))
            for version in versions:
                self._refuse_taken_names(version)
            loaded = [await self._load(version.found) for version in versions]
        except (BundleError, GraphError, OSError) as error:
            raise LoadFailed(Reason.LOAD_FAILED, str(error)) from error
        others = {key: why for key, why in self.registry.refused.items() if key[0] != name}
        self.registry.refused = others | {key: _cannot(why) for key, why in unserved.items()}
        before = {version.number: version for version in self.registry.of(name)}
        for version, graphs in zip(versions, loaded, strict=True):
            old = before.pop(version.number, None)
            if old:
                self.registry.remove(old)
            self._serve(version, graphs)
            self.registry.put(version)
            if old and old.service and version.service:
                kept = {graph.name for graph in version.service.graphs}
                self._in_background(self._drain(old.service, keep=kept))
            _log.info("loaded again: %s version %s", name, version.found.version)
        for version in before.values():
            self._retire(version, "is no longer in the repository")
        self.changed()

    async def unload(self, name: str) -> None:
        """Let a model accept nothing more, and wait until all it accepted is answered.

        Raises ModelNotFound.
        """
        async with self._one_at_a_time:
            self._refuse_part(name)
            versions = [version for version in self.registry.of(name) if not version.gone]
            if not versions:
                raise ModelNotFound(
                    Reason.MODEL_NOT_FOUND, f"this server has no model {quoted(name)}"
                )
            drains = [
                drain
                for version in versions
                if (drain := self._retire(version, "is unloaded; load it again"))
            ]
            self.changed()
            # A caller that leaves must not leave the model half unloaded.
            await asyncio.gather(*(asyncio.shield(drain) for drain in drains))

    async def index(self) -> list[Listing]:
        """List what is served and what lies in the repository, by name, then version."""
        versions = [version for version in self.registry.all() if not version.gone]
        known = {(version.found.name, version.found.version) for version in versions}
        listings = [
            Listing(name, version.found.version, version.state, version.reason)
            for version in versions
            for name in version.names
        ]
        try:
            lying = await self._in_thread(lambda: scan(self.repository))
        except BundleError:  # nothing that could be served lies there any more
            return sorted(listings, key=lambda listing: (listing.name, listing.version))
        reasons = {(one.name, one.version): one.reason for one in lying.unserved}
        for folder in lying.folders:
            key = (folder.parent.name, folder.name)
            reasons[key] = self.registry.refused.get(key, "not loaded")
        listings += [
            Listing(*key, State.UNAVAILABLE, reason)
            for key, reason in reasons.items()
            if key not in known
        ]
        return sorted(listings, key=lambda listing: (listing.name, listing.version))

    async def _read_all(self, folders: list[Path]) -> list[Found | BundleError]:
        """Return what lies in each folder, or why it cannot be served."""

        def read(folder: Path) -> Found | BundleError:
            try:
                return read_model(folder)
            except BundleError as error:
                return error

        all_found = await asyncio.gather(
            *(self._in_thread(partial(read, folder)) for folder in folders)
        )
        files = [found for found in all_found if isinstance(found, OnnxFile)]
        for path in sorted({path for file in files for path in file.triton_configs}):
            _log.warning("%s is not read: %s", path, _INSTEAD_OF_TRITONS)
        return all_found

    def _refuse(self, name: str, version: str, why: str) -> None:
        """Leave out what lies in the repository. Raises BundleError if `strict`."""
        if self.strict:
            raise BundleError(why)
        _log.error("not served: %s%s: %s", name, f" version {version}" if version else "", why)
        self.registry.refused[name, version] = _cannot(why)

    def _refuse_to_serve_nothing(self) -> None:
        """Raise BundleError if no model is served or will be."""
        versions = self.registry.all()
        if any(version.state is not State.UNAVAILABLE for version in versions):
            return
        reasons = [f"{version.found.name} {version.reason}" for version in versions]
        reasons += [f"{name} {why}" for (name, _), why in self.registry.refused.items()]
        raise BundleError(f"no model of {self.repository} can be served: {'; '.join(reasons)}")

    async def _load(self, found: Found) -> LoadedBundle | LoadedOnnxFile:
        """Load what was found; return early if it does not end. Raises what loading raises."""
        given_up = asyncio.get_running_loop().create_future()
        self._loading = found.name, given_up
        loading = asyncio.ensure_future(self._in_thread(partial(self._load_found, found)))
        # Once nobody waits for it, how it fails is nobody's news.
        loading.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        await asyncio.wait({loading, given_up}, return_when=asyncio.FIRST_COMPLETED)
        if loading.done():
            return loading.result()
        raise GraphError(f"{found.folder}: the graph does not end on the inputs it is tried on")

    def _load_found(self, found: Found) -> LoadedBundle | LoadedOnnxFile:
        if isinstance(found, OnnxFile):
            return load_onnx_file(found, self.resources)
        return load_bundle(found, self.resources)

    def give_up_loading(self, stuck: Container[str]) -> None:
        """Let the load that goes on fail if it is of one of these models: it does not end."""
        if self._loading and self._loading[0] in stuck and not self._loading[1].done():
            self._loading[1].set_result(None)

    def _serve(self, version: ModelVersion, loaded: LoadedBundle | LoadedOnnxFile) -> None:
        version.service = loaded.serve(self.resources)
        version.state = State.READY
        for graph in version.service.graphs:
            self.metrics.watch_unanswered(graph.name, graph.count_unanswered)

    def _retire(self, version: ModelVersion, why: str) -> asyncio.Task[None] | None:
        """Take a version out of service; return the task that drains it, if there is need."""
        if version.service is None:
            return None
        service, version.service = version.service, None
        version.state = State.UNLOADING

        async def unload() -> None:
            await self._drain(service, keep=set())
            version.state = State.UNAVAILABLE
            version.reason = why
            if version.gone:
                self.registry.remove(version)
            _log.info("unloaded: %s version %s", version.found.name, version.found.version)

        return self._in_background(unload())

    async def _drain(self, service: InService, *, keep: set[str]) -> None:
        """Let go of graphs once all they accepted is answered.

        Report nothing more of those whose names are not in `keep`.
        """
        for graph in service.graphs:
            await graph.retire()
            if graph.name not in keep:
                self.metrics.forget(graph.name)

    def _in_background(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)
        return task

    def _refuse_part(self, name: str) -> None:
        """Raise InvalidItem for a bundle's graph, which comes and goes with its bundle."""
        for version in self.registry.of(name):
            if name != version.found.name:
                raise InvalidItem(
                    Reason.PART_OF_MODEL,
                    f"{quoted(name)} is a part of model {version.found.name!r}: name that one",
                )

    def _refuse_taken_names(self, version: ModelVersion) -> None:
        """Raise BundleError if another model goes by one of this version's names."""
        for name in version.names:
            for other in self.registry.of(name):
                if other.found.name != version.found.name:
                    raise BundleError(
                        f"models {other.found.name!r} and {version.found.name!r} would both be "
                        f"served as {name}: rename one"
                    )

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(
            self.threads, partial(_releasing, work)
        )


def _cannot(why: object) -> str:
    return f"cannot be served: {why}"


def _releasing(work: Callable[[], T]) -> T:
    """Return what `work` returns; an error that is foreseen holds nothing that was made so far."""
    try:
        return work()
    except (BundleError, GraphError) as error:
        drop_tracebacks(error)
        raise


def _log_ready(version: ModelVersion, seconds: float) -> None:
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
