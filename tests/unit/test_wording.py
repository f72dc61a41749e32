"""What callers send is quoted in part, and what the server sends fits a response's trailers."""

import base64
from urllib.parse import quote

import pytest

from vecserve_server.api.rpc.status import CODES, to_status
from vecserve_server.errors import InvalidItem, QueueFull, TooManyCalls
from vecserve_server.reasons import Reason
from vecserve_server.wording import listed, quoted


def test_a_long_value_is_quoted_in_part() -> None:
    assert quoted("short") == "'short'"
    assert quoted(3) == "3"
    assert quoted("x" * 1000) == f"'{'x' * 80}'... (1000 characters)"


def test_a_long_list_is_cut() -> None:
    assert listed(["a", "b"]) == "a, b"
    names = [f"model-{number}" for number in range(200)]
    assert listed(names).startswith("model-0, model-1,")
    assert listed(names).endswith("model-19 and 180 more")
    assert len(listed(["x" * 200] * 200)) < 600


@pytest.mark.parametrize("character", ["x", "%", "ü", "漢", "😀", "\n", "\ud800"])
def test_a_status_takes_less_than_4_kib_of_trailers(character: str) -> None:
    text = character * 100_000
    for error in (InvalidItem(Reason.NO_ITEMS, text), QueueFull(text, 1), TooManyCalls(text, 1)):
        assert type(error) in CODES
        details = base64.b64encode(to_status(error).SerializeToString())
        assert len(quote(error.message)) + len(details) <= 4096
