"""Places go to peers in turn, and to the callers of a peer in turn; none is lost."""

import asyncio

from vecserve_server.serving.semaphore import FairSemaphore


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def order_of(calls: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return in which order those who ask at once, as (peer, caller), get the only place."""
    served = []

    async def run() -> None:
        places = FairSemaphore(1)

        async def one(peer: str, caller: str) -> None:
            await places.acquire(peer, caller)
            served.append((peer, caller))
            places.release()

        await asyncio.gather(*(one(*call) for call in calls))

    asyncio.run(run())
    return served


def test_peers_take_turns_and_so_do_the_callers_of_each() -> None:
    flood = [("flood", f"{number % 2}") for number in range(6)]
    lone = [("lone", "x"), ("lone", "x")]
    # The first finds a free place; then turns are taken.
    assert order_of([*flood, *lone]) == [
        ("flood", "0"),
        ("flood", "1"),
        ("lone", "x"),
        ("flood", "0"),
        ("lone", "x"),
        ("flood", "1"),
        ("flood", "0"),
        ("flood", "1"),
    ]


def test_a_place_is_free_in_the_next_round_only() -> None:
    """So work under places never holds the event loop for longer than they allow at a time."""

    async def run() -> None:
        places = FairSemaphore(2)
        rounds = []
        now = 0

        async def one() -> None:
            await places.acquire("peer", "caller")
            rounds.append(now)
            places.release()

        tasks = [asyncio.create_task(one()) for _ in range(50)]
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0)
            now += 1
        assert max(rounds.count(number) for number in rounds) <= 2

    asyncio.run(run())


def test_who_leaves_takes_no_place_along() -> None:
    async def run() -> None:
        places = FairSemaphore(1)
        await places.acquire("a", "a")
        leaving = [asyncio.create_task(places.acquire("b", "b")) for _ in range(2)]
        staying = asyncio.create_task(places.acquire("c", "c"))
        await settle()
        leaving[1].cancel()
        places.release()
        # One is granted the place, and leaves before it can take it.
        await asyncio.sleep(0)
        leaving[0].cancel()
        await settle()
        assert staying.done()
        places.release()
        await settle()
        await asyncio.wait_for(places.acquire("d", "d"), 10)

    asyncio.run(run())
