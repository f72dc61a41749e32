"""A client of the shared server, and real media."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from vecserve import Client

MEDIA = Path(__file__).parents[2] / "examples" / "data"


@pytest.fixture
def client(server_address: str) -> Iterator[Client]:
    with Client(server_address) as client:
        yield client


@pytest.fixture
def photo() -> Path:
    return MEDIA / "photos" / "dog-mastiff.jpg"


@pytest.fixture
def speech() -> Path:
    return MEDIA / "speech" / "austen-0880.flac"
