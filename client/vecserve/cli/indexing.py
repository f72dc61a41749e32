"""Pipeline of `vecserve index`: what changed is embedded and upserted.

Three threads: the stream's own hashes sources and asks the store which it knows, the
caller's takes results, and a writer upserts them in batches. A run may be killed
at any point and done again. Keys are hashes of what they name, so nothing is there
twice; and an item of several windows is known by its first, which is written last.
"""

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import Self

import numpy as np

from vecserve._items import Item
from vecserve._results import Result
from vecserve.cli.sources import Source
from vecserve.store.base import Embedding, Store
from vecserve.store.records import Known, Record, record_key

LOOKUP_ITEMS = 256
"""Sources that one question to the store is about."""
BATCH_RECORDS = 512
"""Records of an upsert, or a little more: an item's windows stay together."""
_WAITING_BATCHES = 2


@dataclass(frozen=True, slots=True)
class Pending:
    """A source that the store does not have as it is now."""

    source: Source
    key: str
    content: str
    known: Known | None
    """What the store has of it."""


@dataclass(frozen=True, slots=True)
class PendingItem(Item):
    """An item that says, in its result, what it is for."""

    pending: Pending | None = None


@dataclass(frozen=True, slots=True)
class Update:
    """What an embedded source writes to the store."""

    records: list[Record]
    """One a window, in order."""
    stale: list[str]
    """Keys of the windows that it had before and has no more."""


@dataclass(slots=True)
class Counts:
    """What became of the sources."""

    embedded: int = 0
    unchanged: int = 0
    failed: int = 0
    truncated: int = 0


class Indexer:
    """Brings a collection up to date. A context manager: leaving it writes what is held.

    `on_done(n)` is told how many more sources are dealt with, `on_failure(name,
    message)` of each that fails. Both are called from several threads.
    """

    def __init__(
        self,
        store: Store,
        embedding: Embedding,
        on_done: Callable[[int], None],
        on_failure: Callable[[str, str], None],
    ) -> None:
        self.counts = Counts()
        self.seen: set[str] | None = None
        """Paths of all sources, where they are wanted: set it to an empty set."""
        self._store = store
        self._embedding = embedding
        self._on_done = on_done
        self._on_failure = on_failure
        self._lock = threading.Lock()  # of the store
        self._batch: list[Update] = []
        self._held = 0
        self._batches: queue.Queue[list[Update] | None] = queue.Queue(_WAITING_BATCHES)
        self._failure: BaseException | None = None
        self._writer = threading.Thread(target=self._write, name="vecserve-upsert")

    def __enter__(self) -> Self:
        self._writer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._flush()
        finally:
            self._batches.put(None)
            self._writer.join()
        if self._failure is not None and error is None:
            raise self._failure

    def items(self, sources: Iterable[Source]) -> Iterator[PendingItem]:
        """Yield what has to be embedded; each item's content is the source's."""
        remaining = iter(sources)
        while chunk := list(islice(remaining, LOOKUP_ITEMS)):
            for pending in self._pending(chunk):
                content = pending.source.content
                yield PendingItem(content, id=pending.source.path, pending=pending)

    def take(self, results: Generator[Result]) -> None:
        """Take the results of `items`, until there are no more.

        Raises what the writer raised, if it did.
        """
        for result in results:
            if self._failure is not None:
                results.close()
                raise self._failure
            if result.error is not None:
                self.fail(result.id, result.error.message)
                continue
            self.counts.embedded += 1
            self.counts.truncated += result.truncated
            self._add(result.item.pending, result)
            self._on_done(1)

    def _pending(self, chunk: list[Source]) -> Iterator[Pending]:
        found: dict[str, Pending] = {}
        for source in chunk:
            model, version = self._embedding.model, self._embedding.version
            key = record_key(model, version, source.path, 0)
            if self.seen is not None:
                self.seen.add(source.path)
            try:
                digest = source.digest()
            except OSError as error:
                self.fail(source.path, f"cannot read {source.content}: {error.strerror}")
                continue
            if key in found:
                self._pass_over()
            found[key] = Pending(source, key, digest, None)
        with self._lock:
            known = {own.key: own for own in self._store.known(list(found))}
        for key, pending in found.items():
            own = known.get(key)
            if own and own.content == pending.content:
                self._pass_over()
            else:
                yield Pending(pending.source, key, pending.content, own)

    def _pass_over(self) -> None:
        self.counts.unchanged += 1
        self._on_done(1)

    def fail(self, name: str, message: str) -> None:
        """Count a source that has no vector, and tell."""
        self.counts.failed += 1
        self._on_failure(name, message)

    def _add(self, pending: Pending, result: Result) -> None:
        records = self._records(pending, result)
        before = pending.known.windows if pending.known else 0
        stale = [self._key(pending, window) for window in range(len(records), before)]
        self._batch.append(Update(records, stale))
        self._held += len(records)
        if self._held >= BATCH_RECORDS:
            self._flush()

    def _records(self, pending: Pending, result: Result) -> list[Record]:
        source = pending.source
        return [
            Record(
                key=self._key(pending, window),
                vector=np.asarray(vector.values, np.float32),
                path=source.path,
                modality=source.modality,
                content=pending.content,
                window=window,
                windows=len(result.vectors),
                start_s=vector.span.start_s if vector.span else None,
                end_s=vector.span.end_s if vector.span else None,
                metadata=source.metadata,
            )
            for window, vector in enumerate(result.vectors)
        ]

    def _key(self, pending: Pending, window: int) -> str:
        model, version = self._embedding.model, self._embedding.version
        return record_key(model, version, pending.source.path, window)

    def _flush(self) -> None:
        if self._batch and self._failure is None:
            self._batches.put(self._batch)
        self._batch, self._held = [], 0

    def _write(self) -> None:
        while (batch := self._batches.get()) is not None:
            if self._failure is not None:
                continue  # so that who puts batches here never waits for ever
            try:
                with self._lock:
                    self._upsert(batch)
            except BaseException as error:
                self._failure = error

    def _upsert(self, batch: list[Update]) -> None:
        # Of two results for one key the later counts.
        updates = {update.records[0].key: update for update in batch}.values()
        later = [record for update in updates for record in update.records[1:]]
        stale = [key for update in updates for key in update.stale]
        for start in range(0, len(later), BATCH_RECORDS):
            self._store.upsert(later[start : start + BATCH_RECORDS])
        if stale:
            self._store.delete(stale)
        self._store.upsert([update.records[0] for update in updates])
