"""vecserve (c): batches of items on streams, from client processes of their own."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import nan
from os.path import relpath
from pathlib import Path

from PIL import Image, ImageOps

from benchmarks.context import p50, p99, throughput
from benchmarks.gpu.profile import Profile
from benchmarks.gpu.utilisation import Utilisation
from benchmarks.gpu.workloads import Workload
from benchmarks.servers import ROOT, VecserveServer
from vecserve.bench.load import Load
from vecserve.bench.measure import Case, Part, measure
from vecserve.bench.targets import BenchError, Target
from vecserve.bench.workers import open_workers

# Messages in flight on a stream: one is computed while the next one travels.
_IN_FLIGHT = 2
# Clients must keep a card busy, and leave the server cores to decode and prepare on.
_CLIENTS = max((os.cpu_count() or 1) // 4, 1)
# Distinct messages beyond those in flight: a client holds them all.
_SPARE_MESSAGES = 32
_JPEG_SIZE = (500, 375)
_DATA = ROOT / "examples" / "data"


@dataclass(frozen=True, slots=True)
class ServerFigures:
    """`streams` at a time, each of messages of `items`; latencies are of a message.

    `errors` counts items by code, or by the message where nothing could be measured.
    """

    items: int
    streams: int
    items_per_s: float
    p50_ms: float
    p99_ms: float
    utilisation_percent: float | None
    errors: dict[str, int]


def start(repository: Path, profile: Profile) -> VecserveServer:
    """Return a server that refuses to start unless every model runs on the device."""
    if profile.provider == "cpu":
        return VecserveServer(repository, "--provider", "cpu")
    return VecserveServer(repository, "--require-provider", profile.provider)


def measure_all(
    server: VecserveServer,
    workload: Workload,
    bundle: str,
    profile: Profile,
    show: Callable[[str], None],
) -> Iterator[ServerFigures]:
    """Yield the figures of each number of items on each number of streams."""
    where = f"{server.address}/{bundle}"
    target = Target("vecserve", "typed", where)
    if workload.tensors:
        target = Target("vecserve", "oip", f"{where}.{workload.kind}")
    files = () if workload.tensors or workload.tokens else _files(workload)
    for items in profile.items:
        for streams in profile.streams:
            load = Load(
                tokens=(workload.tokens, workload.tokens),
                files=files,
                items=items,
                stream=True,
                in_flight=_IN_FLIGHT,
                concurrency=streams,
                pool=streams * _IN_FLIGHT + _SPARE_MESSAGES,
            )
            try:
                yield _measure(target, load, profile, show)
            except BenchError as error:
                # A refused load must not lose the figures of the others.
                yield ServerFigures(items, streams, nan, nan, nan, None, {str(error): items})


def _measure(
    target: Target, load: Load, profile: Profile, show: Callable[[str], None]
) -> ServerFigures:
    part = Part(target.name, load)
    with (
        open_workers([target], min(_CLIENTS, load.concurrency)) as workers,
        Utilisation(profile.device) as card,
    ):
        measure([Case("", (part,))], workers, {}, profile.plan, show)
    return ServerFigures(
        items=load.items,
        streams=load.concurrency,
        items_per_s=throughput(part),
        p50_ms=p50(part),
        p99_ms=p99(part),
        utilisation_percent=card.percent,
        errors=dict(sum((one.errors for one in part.rounds), start=Counter())),
    )


def _files(workload: Workload) -> tuple[str, ...]:
    """Return recordings of speech, or photos cut to the size of those of ImageNet."""
    if workload.kind == "audio":
        return tuple(relpath(path) for path in sorted((_DATA / "speech").glob("*.flac")))
    folder = ROOT / ".cache" / "bench-gpu-photos"
    folder.mkdir(parents=True, exist_ok=True)
    for path in (_DATA / "photos").glob("*.jpg"):
        with Image.open(path) as photo:
            ImageOps.fit(photo, _JPEG_SIZE).save(folder / path.name, quality=90)
    return tuple(relpath(path) for path in sorted(folder.glob("*.jpg")))
