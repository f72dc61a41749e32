"""One client, two servers: each gets calls, and one alone serves all."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.server_process import ServerProcess
from vecserve import AsyncClient, Client

TEXT = "all-MiniLM-L6-v2"
ITEMS = f'vecserve_items_total{{code="OK",model="{TEXT}"}}'


@pytest.fixture
def servers(repository_of: Callable[..., Path]) -> Iterator[list[ServerProcess]]:
    repository = repository_of(TEXT)
    with ServerProcess(repository) as one, ServerProcess(repository) as other:
        yield [one, other]


def address_of(servers: list[ServerProcess]) -> str:
    return ",".join(server.address for server in servers)


def items_of(servers: list[ServerProcess]) -> list[float]:
    """How many items each server has embedded."""
    return [server.metric(ITEMS)() for server in servers]


def calls_until_each_has_one(servers: list[ServerProcess]) -> Iterator[None]:
    """Until both connections are up, one server has every call."""
    for _ in range(500):
        if 0 not in items_of(servers):
            return
        yield
    pytest.fail("one server had every call")


def test_streams_go_to_each_server_in_turn(servers: list[ServerProcess]) -> None:
    with Client(address_of(servers), round_robin=True) as client:
        for _ in calls_until_each_has_one(servers):
            client.embed(TEXT, ["a text"])
        before = items_of(servers)
        for _ in range(6):
            assert client.embed(TEXT, ["a text", "another"]).shape == (2, 384)
        assert items_of(servers) == [count + 6 for count in before]


async def test_async_streams_go_to_each_server_in_turn(servers: list[ServerProcess]) -> None:
    async with AsyncClient(address_of(servers), round_robin=True) as client:
        for _ in calls_until_each_has_one(servers):
            await client.embed(TEXT, ["a text"])
        before = items_of(servers)
        for _ in range(6):
            assert (await client.embed(TEXT, ["a text", "another"])).shape == (2, 384)
        assert items_of(servers) == [count + 6 for count in before]


def test_the_other_server_takes_over(servers: list[ServerProcess]) -> None:
    with Client(address_of(servers), round_robin=True) as client:
        for _ in calls_until_each_has_one(servers):
            client.embed(TEXT, ["a text"])
        servers[0].stop()
        for _ in range(4):
            assert client.embed(TEXT, ["a text"]).shape == (1, 384)


def test_without_it_everything_goes_to_one_server(servers: list[ServerProcess]) -> None:
    with Client(address_of(servers)) as client:
        for _ in range(6):
            client.embed(TEXT, ["a text"])
    assert sorted(items_of(servers)) == [0, 6]
