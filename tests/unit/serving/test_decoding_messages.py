"""What a decode worker answers: read as it was meant, and never trusted."""

import gc
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from vecserve_server.modalities.rows import Prepared, Row, Span
from vecserve_server.serving.decoding.messages import Reply, find, place
from vecserve_server.serving.decoding.shared_memory import mapped, write

PREPARED = Prepared(
    (
        Row({"pixels": np.arange(7 * 5 * 3, dtype=np.uint8).reshape(7, 5, 3)}),
        Row(
            {
                "waveform": np.linspace(-1, 1, 1001, dtype=np.float32)[::-1],
                "lengths": np.array(9, dtype=np.int64),
            },
            positions=3,
            weight=4,
            span=Span(0.5, 1.25),
        ),
    ),
    token_count=6,
    truncated=True,
)


@pytest.fixture
def descriptor() -> Iterator[int]:
    """Shared memory that holds the arrays of PREPARED."""
    record, placed = place(PREPARED)
    number = write(record.size, placed)
    yield number
    os.close(number)


def reply() -> dict[str, Any]:
    return Reply(prepared=place(PREPARED)[0]).model_dump(mode="json")


def test_a_prepared_item_arrives_as_it_was_sent(descriptor: int) -> None:
    record = Reply.model_validate(reply()).prepared
    assert record
    memory = mapped(descriptor, record.size)
    found = find(record, memory)
    # The arrays alone keep the memory.
    del memory
    gc.collect()
    assert (found.token_count, found.truncated) == (6, True)
    for got, sent in zip(found.rows, PREPARED.rows, strict=True):
        assert (got.positions, got.weight, got.span) == (sent.positions, sent.weight, sent.span)
        assert list(got.feeds) == list(sent.feeds)
        for name, array in got.feeds.items():
            assert array.dtype == sent.feeds[name].dtype
            assert np.array_equal(array, sent.feeds[name])


def test_python_objects_are_not_taken_from_a_worker() -> None:
    answer = reply()
    answer["prepared"]["rows"][0]["feeds"]["pixels"]["dtype"] = "|O"
    with pytest.raises(ValidationError, match=r"an array of \|O"):
        Reply.model_validate(answer)


@pytest.mark.parametrize(("field", "value"), [("offset", 1 << 20), ("shape", [1 << 40])])
def test_arrays_outside_the_memory_are_not_taken(
    descriptor: int, field: str, value: object
) -> None:
    answer = reply()
    answer["prepared"]["rows"][0]["feeds"]["pixels"][field] = value
    record = Reply.model_validate(answer).prepared
    assert record
    with pytest.raises(TypeError):
        find(record, mapped(descriptor, record.size))


def test_memory_that_may_shrink_is_not_taken(descriptor: int) -> None:
    with pytest.raises(PermissionError):
        os.ftruncate(descriptor, 1)
    with pytest.raises(ValueError, match="bytes that stay"):
        mapped(descriptor, 1 << 20)
    unsealed = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(unsealed, 4096)
        with pytest.raises(ValueError, match="bytes that stay"):
            mapped(unsealed, 4096)
    finally:
        os.close(unsealed)
