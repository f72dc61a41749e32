"""Streams of texts, photos and speech, beside the same preparation and graph in process."""

from dataclasses import replace
from os.path import relpath

from benchmarks.context import MINILM, BenchContext, throughput
from benchmarks.servers import ROOT
from vecserve.bench.load import Load

_DATA = ROOT / "examples" / "data"
_OF_IN_PROCESS = 0.95


def text(context: BenchContext) -> None:
    """Streams of 32 texts a message, 16 tokens and mixed lengths; the server tokenizes."""
    load = Load(stream=True, items=32, in_flight=4)
    _beside_in_process(context, "text", MINILM, load)
    _beside_in_process(context, "text, mixed lengths", MINILM, replace(load, tokens=(3, 209)))


def images(context: BenchContext) -> None:
    """JPEG photos, 4 a message, for ResNet-50 and CLIP."""
    files = tuple(relpath(path) for path in sorted((_DATA / "photos").glob("*.jpg")))
    load = Load(files=files, stream=True, items=4, in_flight=4)
    _beside_in_process(context, "ResNet-50, JPEG", "resnet-50", load)
    _beside_in_process(context, "CLIP, JPEG", "clip-vit-base-patch32", load, "--modality", "image")


def audio(context: BenchContext) -> None:
    """Recordings of speech, one a message, for Whisper."""
    files = tuple(relpath(path) for path in sorted((_DATA / "speech").glob("*.flac")))
    load = Load(files=files, stream=True, items=1, in_flight=8)
    _beside_in_process(context, "Whisper, FLAC", "whisper-base", load, rounds=3, times_as_long=3)


def _beside_in_process(
    context: BenchContext,
    title: str,
    model: str,
    load: Load,
    *flags: str,
    rounds: int | None = None,
    times_as_long: float = 1,
) -> None:
    plan = replace(
        context.plan,
        rounds=min(context.plan.rounds, rounds or context.plan.rounds),
        seconds=context.plan.seconds * times_as_long,
    )
    targets = [context.typed(model), context.in_process(model, "--raw", *flags)]
    cases = context.measure(title, [[(target, load)] for target in targets], plan=plan)
    server, in_process = (case.parts[0] for case in cases)
    share = throughput(server) / throughput(in_process)
    context.check(f"{title}, streamed: items/s over in-process", share, ">=", _OF_IN_PROCESS)
