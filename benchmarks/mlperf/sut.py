"""How our client asks, in each scenario."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager

from anyio.from_thread import start_blocking_portal

from benchmarks.mlperf.ledger import Desk, Sample
from vecserve import AsyncClient, Client

Ask = Callable[[Sequence[Sample], Desk], None]
"""Embeds samples and hands the vectors to the desk; it need not wait for them."""


@contextmanager
def one_by_one(address: str, model: str, items: Sequence[object]) -> Iterator[Ask]:
    """SingleStream: a call of `embed` each, and LoadGen's thread waits for it."""
    with Client(address) as client:

        def ask(samples: Sequence[Sample], desk: Desk) -> None:
            for sample in samples:
                desk.answer(sample, client.embed(model, [items[sample.index]])[0])

        client.embed(model, items[:1])
        yield ask


@contextmanager
def on_one_stream(address: str, model: str, items: Sequence[object]) -> Iterator[Ask]:
    """Offline: all samples on one stream, answered as they are ready."""
    with Client(address) as client:

        def ask(samples: Sequence[Sample], desk: Desk) -> None:
            asked = (items[sample.index] for sample in samples)
            with closing(client.embed_stream(model, asked, ordered=False)) as results:
                for result in results:
                    desk.answer(samples[result.index], result.vector)

        client.embed(model, items[:1])
        yield ask


@contextmanager
def as_they_come(address: str, model: str, items: Sequence[object]) -> Iterator[Ask]:
    """Server: a call of `embed` each, on an event loop; LoadGen's thread never waits."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(portal.call(AsyncClient, address)) as client,
    ):

        async def embed(sample: Sample, desk: Desk) -> None:
            try:
                desk.answer(sample, (await client.embed(model, [items[sample.index]]))[0])
            except Exception as error:
                desk.fail(error)

        def ask(samples: Sequence[Sample], desk: Desk) -> None:
            for sample in samples:
                portal.start_task_soon(embed, sample, desk)

        portal.call(client.embed, model, items[:1])
        yield ask
