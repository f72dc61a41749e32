"""System under test: how each scenario's samples reach the server through the client."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager

from anyio.from_thread import start_blocking_portal

from benchmarks.mlperf.ledger import Ledger, Sample
from vecserve import AsyncClient, Client

Issue = Callable[[Sequence[Sample], Ledger], None]
"""LoadGen's issue-query callback: embeds samples, and enters each vector in the ledger."""


@contextmanager
def single_stream(address: str, model: str, items: Sequence[object]) -> Iterator[Issue]:
    """SingleStream: a call of `embed` each, on LoadGen's thread."""
    with Client(address) as client:

        def issue(samples: Sequence[Sample], ledger: Ledger) -> None:
            for sample in samples:
                ledger.complete(sample, client.embed(model, [items[sample.index]])[0])

        client.embed(model, items[:1])
        yield issue


@contextmanager
def offline(address: str, model: str, items: Sequence[object]) -> Iterator[Issue]:
    """Offline: all samples on one stream, answered as they are ready."""
    with Client(address) as client:

        def issue(samples: Sequence[Sample], ledger: Ledger) -> None:
            contents = (items[sample.index] for sample in samples)
            with closing(client.embed_stream(model, contents, ordered=False)) as results:
                for result in results:
                    ledger.complete(samples[result.index], result.vector)

        client.embed(model, items[:1])
        yield issue


@contextmanager
def server(address: str, model: str, items: Sequence[object]) -> Iterator[Issue]:
    """Server: a call of `embed` each, on an event loop; LoadGen's thread does not wait."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(portal.call(AsyncClient, address)) as client,
    ):

        async def embed(sample: Sample, ledger: Ledger) -> None:
            try:
                ledger.complete(sample, (await client.embed(model, [items[sample.index]]))[0])
            except Exception as error:
                ledger.fail(error)

        def issue(samples: Sequence[Sample], ledger: Ledger) -> None:
            for sample in samples:
                portal.start_task_soon(embed, sample, ledger)

        portal.call(client.embed, model, items[:1])
        yield issue
