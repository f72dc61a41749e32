"""Every example, built and run: the same vectors, through a restart of the server too."""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tests.examples.programs import EXAMPLES, LANGUAGES, Example, Output, missing_tools, need_tools
from tests.support.server_process import ServerProcess
from vecserve import Client

MODELS = ("all-MiniLM-L6-v2", "clip-vit-base-patch32", "whisper-base")
DIMENSIONS = {
    "reset-password": 384,
    "forgot-login": 384,
    "dog-dalmatian.jpg": 512,
    "dog-mastiff.jpg": 512,
    "austen-0880.flac": 512,
    "austen-0890.flac": 512,
}
CODES = {"broken.jpg": "INVALID_ARGUMENT", "late": "DEADLINE_EXCEEDED"}
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def output_of(server_address: str) -> Callable[[str], Output]:
    """What a language's example prints, run once against the shared server."""
    return cache(lambda language: Example(language, server_address).finish())


@pytest.fixture(scope="module")
def expected(server_address: str) -> dict[str, float]:
    """The cosines, by the client and numpy."""
    photos, speech = EXAMPLES / "data" / "photos", EXAMPLES / "data" / "speech"
    pairs: dict[str, tuple[str, list[object]]] = {
        "reset-password forgot-login": (
            MODELS[0],
            ["How do I reset my password?", "I forgot my login details."],
        ),
        "dog-dalmatian.jpg dog-mastiff.jpg": (
            MODELS[1],
            [photos / "dog-dalmatian.jpg", photos / "dog-mastiff.jpg"],
        ),
        "austen-0880.flac austen-0890.flac": (
            MODELS[2],
            [speech / "austen-0880.flac", speech / "austen-0890.flac"],
        ),
    }
    cosines = {}
    with Client(server_address) as client:
        for name, (model, items) in pairs.items():
            a, b = client.embed(model, items)
            cosines[name] = float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
    return cosines


@pytest.mark.parametrize("language", LANGUAGES)
def test_embeds_and_reports(
    language: str,
    output_of: Callable[[str], Output],
    expected: dict[str, float],
    server_address: str,
) -> None:
    need_tools(language)
    output = output_of(language)
    assert output.dimensions == DIMENSIONS
    assert output.codes == CODES
    assert output.similarities == pytest.approx(expected, abs=TOLERANCE)
    with Client(server_address) as client:
        assert output.untrained == {
            model.name for model in client.models() if not model.trained and model.name in MODELS
        }


def test_all_languages_agree(output_of: Callable[[str], Output]) -> None:
    for language in LANGUAGES:
        need_tools(language)
    outputs = [output_of(language).similarities for language in LANGUAGES]
    for pair in outputs[0]:
        cosines = [output[pair] for output in outputs]
        # What is printed is rounded to 1e-6, which adds up to as much to the difference.
        assert max(cosines) - min(cosines) <= TOLERANCE + 1e-6, outputs


@pytest.fixture(scope="module")
def restarted(repository_of: Callable[..., Path]) -> Iterator[dict[str, Example]]:
    """All examples that can be built, each of which has seen its server go and come back."""
    repository = repository_of(*MODELS)
    running: dict[str, Example] = {}
    try:
        with ServerProcess(repository) as server:
            address = server.address
            for language in LANGUAGES:
                if not missing_tools(language):
                    running[language] = Example(language, address, "--pause")
            for example in running.values():
                example.until("press Enter to go on")
        for example in running.values():
            example.press_enter()
        for example in running.values():
            example.until(r"unavailable: .*again in")
        # From the moment it listens it answers UNAVAILABLE, item by item, until the models are in.
        with ServerProcess(repository, "--port", address.rpartition(":")[2], until="listening on"):
            yield running
    finally:
        for example in running.values():
            example.close()


@pytest.mark.parametrize("language", LANGUAGES)
def test_goes_on_after_a_restart(
    language: str, restarted: dict[str, Example], expected: dict[str, float]
) -> None:
    need_tools(language)
    output = restarted[language].finish()
    assert output.dimensions == DIMENSIONS
    assert output.codes == CODES
    assert output.similarities == pytest.approx(expected, abs=TOLERANCE)
