"""The example of options: prompts, dimensions and bytes, read as numbers again."""

import re

import pytest

from tests.examples.programs import Example, need_tools
from vecserve import Client

MODEL = "all-MiniLM-L6-v2"
TEXTS = {"query": "How do I reset my password?", "passage": "Click on Forgot password."}


def test_node_sets_options_and_reads_int8(server_address: str) -> None:
    need_tools("node")
    output = Example("node", server_address, program="options").finish()
    with Client(server_address) as client:
        query, passage = (
            client.embed(MODEL, [text], prompt=f"{name}: ", dimensions=128, force_dimensions=True)
            for name, text in TEXTS.items()
        )
    found = re.findall(r"^vector (\S+) (\d+) (\S+)$", output.text, re.MULTILINE)
    assert [(name, length) for name, length, _ in found] == [("query", "128"), ("passage", "128")]
    # An int8 is at most half a step off; a step is a 127th of the largest number, below 1.
    assert [float(first) for *_, first in found] == pytest.approx(
        [query[0, 0], passage[0, 0]], abs=0.5 / 127
    )
    assert output.similarities == {
        "query passage": pytest.approx(float(query[0] @ passage[0]), abs=0.01)
    }
