"""Raw items on one stream beside the same preparation and graph in process."""

from dataclasses import replace
from os.path import relpath

from benchmarks.context import MINILM, House, throughput
from benchmarks.servers import ROOT
from vecserve.bench.load import Load

_DATA = ROOT / "examples" / "data"
_OF_LIMIT = 0.95


def text(house: House) -> None:
    """Streams of 32 texts a message, 16 tokens and mixed lengths; the server tokenizes."""
    load = Load(stream=True, items=32, in_flight=4)
    _beside_limit(house, "text", MINILM, load)
    _beside_limit(house, "text, mixed lengths", MINILM, replace(load, tokens=(3, 209)))


def images(house: House) -> None:
    """JPEG photos, 4 a message, for ResNet-50 and CLIP."""
    files = tuple(relpath(path) for path in sorted((_DATA / "photos").glob("*.jpg")))
    load = Load(files=files, stream=True, items=4, in_flight=4)
    _beside_limit(house, "ResNet-50, JPEG", "resnet-50", load)
    _beside_limit(house, "CLIP, JPEG", "clip-vit-base-patch32", load, "--modality", "image")


def audio(house: House) -> None:
    """Recordings of speech, one a message, for Whisper."""
    files = tuple(relpath(path) for path in sorted((_DATA / "speech").glob("*.flac")))
    load = Load(files=files, stream=True, items=1, in_flight=8)
    _beside_limit(house, "Whisper, FLAC", "whisper-base", load, rounds=3, times_as_long=3)


def _beside_limit(
    house: House,
    title: str,
    model: str,
    load: Load,
    *flags: str,
    rounds: int | None = None,
    times_as_long: float = 1,
) -> None:
    plan = replace(
        house.plan,
        rounds=min(house.plan.rounds, rounds or house.plan.rounds),
        seconds=house.plan.seconds * times_as_long,
    )
    targets = [house.typed(model), house.limit(model, "--raw", *flags)]
    cases = house.measure(title, [[(target, load)] for target in targets], plan=plan)
    ours, limit = (case.parts[0] for case in cases)
    share = throughput(ours) / throughput(limit)
    house.bar(f"{title}, streamed: items/s over the limit's", share, ">=", _OF_LIMIT)
