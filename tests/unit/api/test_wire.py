"""The count of a message's parts agrees with what protobuf makes of it, and stops at its bounds."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as oip

from vecserve.v1 import embedding_pb2 as embedding
from vecserve_server.api.rpc.wire import TooMany, check_parts

INPUTS = 5
RAW = 7


def parts_and_numbers(message: Any) -> tuple[int, int]:
    """Count what is set in a message, by protobuf's own account."""
    parts = numbers = 0
    for field, value in message.ListFields():
        values = value if field.is_repeated else [value]
        if field.is_packed:
            parts, numbers = parts + 1, numbers + len(values)
            continue
        if field.message_type and field.message_type.GetOptions().map_entry:
            values = list(value.values())
            # Each is an entry, which has a key.
            parts += 2 * len(values)
        parts += len(values)
        for one in values if field.message_type else ():
            inside = parts_and_numbers(one)
            parts, numbers = parts + inside[0], numbers + inside[1]
    return parts, numbers


def is_within(message: Any, max_parts: int, max_numbers: int) -> bool:
    data = message.SerializeToString()
    try:
        check_parts(type(message), data, max_parts=max_parts, max_numbers=max_numbers)
    except TooMany:
        return False
    return True


contents = st.one_of(
    st.builds(
        oip.InferTensorContents,
        int64_contents=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5)
        | st.just([1] * 100)
        | st.just([300] * 100),
    ),
    st.builds(oip.InferTensorContents, fp32_contents=st.lists(st.floats(width=32), max_size=5)),
    st.builds(oip.InferTensorContents, bytes_contents=st.lists(st.binary(), max_size=5)),
)
parameters = st.dictionaries(
    st.text(min_size=1, max_size=3), st.builds(oip.InferParameter, int64_param=st.just(7))
)
inputs = st.builds(
    oip.ModelInferRequest.InferInputTensor,
    name=st.text(),
    shape=st.lists(st.integers(1, 100), max_size=4),
    contents=contents,
)
requests = st.builds(
    oip.ModelInferRequest,
    model_name=st.text(max_size=200),
    inputs=st.lists(inputs, max_size=4),
    raw_input_contents=st.lists(st.binary(max_size=200), max_size=3),
    parameters=parameters,
)
items = st.builds(embedding.Item, item_id=st.text(), text=st.text()) | st.builds(
    embedding.Item, pcm=st.builds(embedding.PcmAudio, samples=st.binary(), channels=st.just(2))
)
calls = st.builds(
    embedding.EmbedRequest,
    items=st.lists(items, max_size=4),
    options=st.builds(embedding.EmbedOptions, normalize=st.booleans(), dimensions=st.just(300)),
)


@given(message=requests | calls)
def test_parts_are_counted_as_protobuf_does(message: Any) -> None:
    parts, numbers = parts_and_numbers(message)
    assert is_within(message, parts, 10**6)
    assert not parts or not is_within(message, parts - 1, 10**6)
    # Few packed bytes are counted as that many numbers.
    bytes_ = 10 * numbers
    assert is_within(message, parts, bytes_)


def test_numbers_are_counted_not_their_bytes() -> None:
    wide = oip.InferTensorContents(int64_contents=[2**40] * 1000)
    message = oip.ModelInferRequest(inputs=[oip.ModelInferRequest.InferInputTensor(contents=wide)])
    assert is_within(message, 10, 1000)
    assert not is_within(message, 10, 999)


@pytest.mark.parametrize(
    "make",
    [
        lambda n: b"\x2a\x00" * n,  # inputs
        lambda n: b"\x22\x00" * n,  # parameters
        lambda n: b"\xa2\x06\x00" * n,  # field 100, which nobody knows
        lambda n: b"\xa0\x06\x01" * n,
        lambda n: b"\xa5\x06abcd" * n,
        lambda n: b"\xa1\x06abcdefgh" * n,
        lambda n: b"\xa3\x06\xa4\x06" * (n // 2),  # groups
        lambda n: b"\xaa\x00\x00" * n,  # a tag that is longer than it must be
    ],
)
def test_parts_of_every_wire_type_are_counted(make: Callable[[int], bytes]) -> None:
    data = make(1000)
    check_parts(oip.ModelInferRequest, data, max_parts=1000, max_numbers=0)
    with pytest.raises(TooMany):
        check_parts(oip.ModelInferRequest, data, max_parts=999, max_numbers=0)


@given(data=st.binary(max_size=300), message=requests, at=st.integers(0, 300))
def test_what_is_no_message_is_left_to_the_parser(
    data: bytes, message: oip.ModelInferRequest, at: int
) -> None:
    whole = message.SerializeToString()
    for broken in (data, whole[:at], whole[:at] + data, data + whole):
        check_parts(type(message), broken, max_parts=10**6, max_numbers=10**6)
