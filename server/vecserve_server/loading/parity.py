"""Provider parity: how far vectors of a provider may be from those of ONNX Runtime's own cpu."""

import numpy as np

from vecserve_server.engine.engine import Engine, Job
from vecserve_server.engine.session import GraphError
from vecserve_server.repository.config import Provider

# bfloat16 gives 0.9999 and better for all four families.
MIN_COSINE = 0.999


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
