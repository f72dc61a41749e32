"""Triton's client, of the server under test."""

from collections.abc import Iterator

import pytest
from tritonclient.grpc import InferenceServerClient


@pytest.fixture
def client(server_address: str) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(server_address) as client:
        yield client
