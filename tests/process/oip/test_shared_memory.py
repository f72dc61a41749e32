"""System shared memory: inputs and outputs that never travel."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import serialize_byte_tensor, shared_memory

from tests.contract.oip.requests import failure, inputs, strings

X = np.arange(6, dtype=np.float32).reshape(2, 3)


class Memory:
    """One shared memory object, registered as a region."""

    def __init__(self, client: InferenceServerClient, size: int) -> None:
        self.client = client
        self.name = f"region-{uuid.uuid4()}"
        self.key = f"/{self.name}"
        self.size = size
        self.handle = shared_memory.create_shared_memory_region(self.name, self.key, size)
        client.register_system_shared_memory(self.name, self.key, size)

    def close(self) -> None:
        self.client.unregister_system_shared_memory(self.name)
        shared_memory.destroy_shared_memory_region(self.handle)


@pytest.fixture
def memory(plain: InferenceServerClient) -> Iterator[Memory]:
    region = Memory(plain, 256)
    yield region
    region.close()


def shared_input(memory: Memory, size: int, offset: int = 0) -> list[InferInput]:
    tensor = InferInput("x", [2, 3], "FP32")
    tensor.set_shared_memory(memory.name, size, offset)
    return [tensor]


def shared_output(memory: Memory, size: int, offset: int = 0) -> list[InferRequestedOutput]:
    wanted = InferRequestedOutput("y")
    wanted.set_shared_memory(memory.name, size, offset)
    return [wanted]


def test_both_ways(plain: InferenceServerClient, memory: Memory) -> None:
    shared_memory.set_shared_memory_region(memory.handle, [X], offset=64)
    response = plain.infer(
        "small",
        shared_input(memory, X.nbytes, 64),
        outputs=shared_output(memory, X.nbytes, 128),
    ).get_response()
    got = shared_memory.get_contents_as_numpy(memory.handle, np.float32, [2, 3], offset=128)
    assert np.array_equal(got, X + 1)
    parameters = response.outputs[0].parameters
    assert parameters["shared_memory_region"].string_param == memory.name
    assert parameters["shared_memory_byte_size"].int64_param == X.nbytes
    assert list(response.raw_output_contents) == [b""]
    # One way is enough.
    result = plain.infer("small", shared_input(memory, X.nbytes, 64))
    assert np.array_equal(result.as_numpy("y"), X + 1)


def test_strings(plain: InferenceServerClient, memory: Memory) -> None:
    text = strings(b"one", b"zwei", shape=(1, 2))
    shared_memory.set_shared_memory_region(memory.handle, [serialize_byte_tensor(text)])
    tensor = InferInput("x_BYTES", [1, 2], "BYTES")
    tensor.set_shared_memory(memory.name, (4 + 3) + (4 + 4))
    assert np.array_equal(plain.infer("strings", [tensor]).as_numpy("y_BYTES"), text)


def test_memory_that_nobody_wrote_is_not_read(plain: InferenceServerClient) -> None:
    """Of a region of 4 GiB that takes no memory, only what an input's shape takes is read."""
    memory = Memory(plain, 4 << 30)
    try:
        code, message = failure(plain.infer, "small", shared_input(memory, 200 << 20))
        assert (code, "takes 24 bytes" in message) == ("INVALID_ARGUMENT", True)
        tensor = InferInput("x_BYTES", [1, 2], "BYTES")
        tensor.set_shared_memory(memory.name, 4 << 30)
        code, message = failure(plain.infer, "strings", [tensor])
        assert (code, "send less" in message) == ("INVALID_ARGUMENT", True)
    finally:
        memory.close()


def test_status_and_unregister(plain: InferenceServerClient, memory: Memory) -> None:
    status = plain.get_system_shared_memory_status(memory.name).regions[memory.name]
    assert (status.key, status.offset, status.byte_size) == (memory.key, 0, 256)
    other = Memory(plain, 64)
    assert set(plain.get_system_shared_memory_status().regions) >= {memory.name, other.name}
    other.close()
    assert failure(plain.get_system_shared_memory_status, other.name)[0] == "NOT_FOUND"
    plain.unregister_system_shared_memory(other.name)
    code, message = failure(plain.infer, "small", shared_input(other, X.nbytes))
    assert (code, other.name in message) == ("NOT_FOUND", True)
    plain.unregister_system_shared_memory()
    assert not plain.get_system_shared_memory_status().regions


@pytest.mark.parametrize(
    ("size", "offset", "says"),
    [
        (24, 240, "bytes 240 to 264"),
        (300, 0, "bytes 0 to 300"),
        (2**62, 2**62, "it has 256"),
        (-24, 0, "it has 256"),
        (20, 0, "takes 24 bytes, it has 20"),
    ],
)
def test_parts_outside_the_region_are_refused(
    plain: InferenceServerClient, memory: Memory, size: int, offset: int, says: str
) -> None:
    code, message = failure(plain.infer, "small", shared_input(memory, size, offset))
    assert code == "INVALID_ARGUMENT"
    assert says in message


def test_an_output_larger_than_its_region_is_refused(
    plain: InferenceServerClient, memory: Memory
) -> None:
    code, message = failure(plain.infer, "small", inputs(x=X), outputs=shared_output(memory, 20))
    assert code == "INVALID_ARGUMENT"
    assert "an output has 24 bytes, 20 of" in message


@pytest.mark.parametrize(
    ("key", "offset", "size", "code"),
    [
        ("/nothing-there", 0, 8, "NOT_FOUND"),
        ("/../etc/passwd", 0, 8, "INVALID_ARGUMENT"),
        ("../../etc/passwd", 0, 8, "INVALID_ARGUMENT"),
        ("/a/b", 0, 8, "INVALID_ARGUMENT"),
        ("//a", 0, 8, "INVALID_ARGUMENT"),
        ("/..", 0, 8, "INVALID_ARGUMENT"),
        (".", 0, 8, "INVALID_ARGUMENT"),
        ("", 0, 8, "INVALID_ARGUMENT"),
        ("/a\0b", 0, 8, "INVALID_ARGUMENT"),
        (None, 0, 257, "INVALID_ARGUMENT"),
        (None, 250, 8, "INVALID_ARGUMENT"),
        (None, 2**63, 2**63, "INVALID_ARGUMENT"),
        (None, 0, 0, "INVALID_ARGUMENT"),
    ],
)
def test_what_cannot_be_registered(
    plain: InferenceServerClient, memory: Memory, key: str | None, offset: int, size: int, code: str
) -> None:
    got, message = failure(
        plain.register_system_shared_memory,
        "region",
        memory.key if key is None else key,
        size,
        offset,
    )
    assert got == code, message
    assert "region" not in plain.get_system_shared_memory_status().regions


def test_a_name_is_registered_once(plain: InferenceServerClient, memory: Memory) -> None:
    register = plain.register_system_shared_memory
    assert failure(register, memory.name, memory.key, 8)[0] == "ALREADY_EXISTS"


def test_a_link_in_the_place_of_memory_is_refused(
    plain: InferenceServerClient, memory: Memory
) -> None:
    link = Path("/dev/shm") / f"link-{uuid.uuid4()}"
    link.symlink_to("/etc/passwd")
    try:
        code, _ = failure(plain.register_system_shared_memory, "region", f"/{link.name}", 8)
    finally:
        link.unlink()
    assert code == "NOT_FOUND"


def test_memory_that_shrinks_ends_no_server(plain: InferenceServerClient, memory: Memory) -> None:
    with (Path("/dev/shm") / memory.name).open("r+b") as file:
        file.truncate(0)
    code, message = failure(plain.infer, "small", shared_input(memory, X.nbytes))
    assert (code, "has shrunk" in message) == ("INVALID_ARGUMENT", True)
    code, message = failure(
        plain.infer, "small", inputs(x=X), outputs=shared_output(memory, X.nbytes)
    )
    assert (code, "has shrunk" in message) == ("INVALID_ARGUMENT", True)
    assert plain.is_server_live()
