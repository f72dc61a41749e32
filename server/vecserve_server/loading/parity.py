"""Holds a provider that computes less exactly to ONNX Runtime's own cpu, on this machine."""

import numpy as np

from vecserve_server.engine.engine import Array, Engine, Job
from vecserve_server.engine.session import GraphError
from vecserve_server.modalities.base import Pipeline
from vecserve_server.modalities.content import Text
from vecserve_server.repository.config import Provider
from vecserve_server.repository.manifest import Pooling, Tower

# bfloat16 gives 0.9999 and better for all four families.
MIN_COSINE = 0.999

_TEXTS = (
    "A probe.",
    "Rows of several lengths share this batch, so that padding and its mask are proven too.",
)
_ROWS = 2
_SEED = 0


def probe_jobs(tower: Tower, pipeline: Pipeline) -> list[Job]:
    """Return rows to compare on: sentences, or noise of pixels or sound."""
    # Not of single positions: those of Whisper that hold no sound go anywhere.
    outputs = tuple(output.name for output in tower.outputs if output.pooling is not Pooling.NONE)
    random = np.random.default_rng(_SEED)
    feeds: list[dict[str, Array]]
    match tower.input.kind:
        case "text":
            rows = [
                row
                for text in _TEXTS
                for row in pipeline.prepare(Text(text), refuse_truncation=False).rows
            ]
            feeds = [{name: feed[None] for name, feed in row.feeds.items()} for row in rows]
            return [
                Job(feed, rows=1, positions=row.positions, outputs=outputs)
                for feed, row in zip(feeds, rows, strict=True)
            ]
        case "image":
            shape = (1, tower.input.crop_height, tower.input.crop_width, 3)
            feeds = [
                {"pixels": random.integers(0, 256, shape, dtype=np.uint8)} for _ in range(_ROWS)
            ]
        case "audio":
            sound = (1, tower.input.window_samples)
            feeds = [
                {
                    "waveform": random.uniform(-0.1, 0.1, sound).astype(np.float32),
                    "lengths": np.array([tower.input.window_samples], dtype=np.int64),
                }
                for _ in range(_ROWS)
            ]
    return [Job(feed, rows=1, positions=1, outputs=outputs) for feed in feeds]


def check_parity(
    engine: Engine, reference: Engine, jobs: list[Job], model: str, provider: Provider
) -> float:
    """Run jobs as one batch on both and return the smallest cosine of a vector.

    Raises GraphError if it is below MIN_COSINE or `engine` fails, and what `reference` raises.
    """
    cosine = 1.0
    for actual, expected in zip(engine.run(jobs), reference.run(jobs), strict=True):
        if isinstance(actual, Exception):
            raise GraphError(f"{model} fails on {provider}: {actual}") from actual
        if isinstance(expected, Exception):
            raise expected
        for name in actual:
            one, two = actual[name].astype(np.float64), expected[name].astype(np.float64)
            lengths = np.linalg.norm(one, axis=-1) * np.linalg.norm(two, axis=-1)
            # Not min(): it would drop a NaN.
            cosine = float(np.minimum(cosine, ((one * two).sum(-1) / lengths).min()))
    if not cosine >= MIN_COSINE:
        raise GraphError(
            f"{model} on {provider} has cosine {cosine:.6f} to its vectors on cpu, "
            f"{MIN_COSINE} is asked for: start with --provider {model}=cpu, or export it again"
        )
    return cosine
