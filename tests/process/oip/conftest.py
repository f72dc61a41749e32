"""A server of plain ONNX files, and tritonclients."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from onnx import TensorProto
from tritonclient.grpc import InferenceServerClient

from tests.contract.oip.requests import MINILM
from tests.process.oip.graphs import (
    NUMBERS,
    add,
    add_eight,
    identity,
    mean_of_numbers,
    mean_of_tokens,
    rows_of_seven,
    save,
)
from tests.support.held_queue import held_until
from tests.support.server_process import ServerProcess

# Some requests are held back for a moment; no test counts on what happens in it.
DELAY = {"queue_delay_us": 200_000}


@pytest.fixture(scope="session")
def plain_repository(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    (folder / "transformer" / "1").mkdir(parents=True)
    text_graph = repository / MINILM / "1" / "text.onnx"
    (folder / "transformer" / "1" / "model.onnx").symlink_to(text_graph)
    numbers = {name: kind for name, (kind, _) in NUMBERS.items()}
    # For all versions, one level up.
    (folder / "transformer" / "config.json").write_text(json.dumps(DELAY))
    save(folder, "numbers", identity(numbers, ["batch", 2, 3]))
    del numbers["FP16"]
    save(folder, "contents", identity(numbers | {"BYTES": TensorProto.STRING}, ["batch", 3]))
    save(folder, "strings", identity({"BYTES": TensorProto.STRING}, ["batch", 2]))
    save(folder, "bytes", identity({"INT8": TensorProto.INT8}, ["batch", 3]))
    save(folder, "half", identity({"FP16": TensorProto.FLOAT16}, ["batch", 3]))
    save(folder, "bfloat16", identity({"BF16": TensorProto.BFLOAT16}, ["batch", 3]))
    save(folder, "masked", mean_of_tokens(masked=True), config=DELAY)
    save(folder, "eight", add_eight(), config={"warm_up": False})
    save(folder, "unmasked", mean_of_numbers(), config=DELAY)
    save(folder, "held", add(1, ["batch", 3]), config=held_until(17))
    save(folder, "picky", rows_of_seven())
    save(folder, "picky-cold", rows_of_seven(), config={"warm_up": False})
    save(folder, "fixed", add(1, [2, 3]))
    save(folder, "small", add(1, ["batch", 3]), config={"max_batch_size": 4, "instances": 1})
    save(folder, "alone", add(1, [None, 3]), config={"max_batch_size": 0, "warm_up": False})
    for version in (1, 2, 10):
        save(folder, "versions", add(version, [None, 3]), version=version)
    return folder


@pytest.fixture(scope="session")
def plain_server(plain_repository: Path) -> Iterator[ServerProcess]:
    with ServerProcess(plain_repository) as process:
        yield process
        log = process.log
    assert "Traceback" not in log


@pytest.fixture
def plain(plain_server: ServerProcess) -> Iterator[InferenceServerClient]:
    """A client of the server of plain files."""
    with InferenceServerClient(plain_server.address) as client:
        yield client


@pytest.fixture
def client(server_address: str) -> Iterator[InferenceServerClient]:
    """A client of the server of the four bundles."""
    with InferenceServerClient(server_address) as client:
        yield client
