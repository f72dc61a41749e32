"""The scheduler's promises, over random arrivals, lengths, cancellations and completions."""

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st
from vecserve_server.scheduling.scheduler import MAX_PADDING, Batch, BatchLimits, Entry, Scheduler


@dataclass
class Caller:
    """Stands for who waits for a row."""

    gone: bool = False

    def cancelled(self) -> bool:
        return self.gone


LIMITS = BatchLimits(max_rows=4, max_positions=64)

_steps = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.integers(0, 2), st.integers(1, 100)),
        st.tuples(st.just("cancel"), st.integers(0, 50), st.just(0)),
        st.tuples(st.just("take"), st.just(0), st.just(0)),
        st.tuples(st.just("finish"), st.integers(0, 3), st.just(0)),
    ),
    max_size=120,
)


@settings(max_examples=300, deadline=None)
@given(slots=st.integers(1, 3), steps=_steps)
def test_every_row_runs_once_in_a_legal_batch(slots: int, steps: list) -> None:
    scheduler: Scheduler[Caller, int] = Scheduler(slots)
    queues = [scheduler.add_queue(str(number), LIMITS) for number in range(3)]
    waiting: dict[int, tuple[int, Caller]] = {}
    running: list[Batch[Caller, int]] = []
    ran: list[int] = []
    number = 0

    def take() -> None:
        oldest = next((key for key, (_, caller) in waiting.items() if not caller.gone), None)
        batch = scheduler.next_batch()
        # Work-conserving: nothing comes back only for want of a slot or a row.
        assert (batch is None) == (len(running) == slots or oldest is None)
        if batch is None:
            return
        rows = [entry.payload for entry in batch.entries]
        # No starvation: the row that came first of all is served first.
        assert oldest in rows
        assert len({waiting[row][0] for row in rows}) == 1
        assert not any(waiting[row][1].gone for row in rows)
        assert len(rows) <= LIMITS.max_rows
        if len(rows) > 1:
            assert batch.padded_positions <= LIMITS.max_positions
            real = sum(entry.positions for entry in batch.entries)
            assert batch.padded_positions - real <= MAX_PADDING * batch.padded_positions
        for row in rows:
            del waiting[row]
        ran.extend(rows)
        running.append(batch)

    for action, first, second in steps:
        if action == "submit":
            caller = Caller()
            scheduler.submit(queues[first], Entry(1, second, None, caller, number))
            waiting[number] = (first, caller)
            number += 1
        elif action == "cancel" and first in waiting:
            waiting[first][1].gone = True
        elif action == "take":
            take()
        elif action == "finish" and running:
            scheduler.finished(running.pop(first % len(running)))
    while any(not caller.gone for _, caller in waiting.values()):
        if len(running) == slots:
            scheduler.finished(running.pop())
        take()
    assert len(ran) == len(set(ran))


def test_a_batch_takes_the_rows_nearest_in_length() -> None:
    scheduler: Scheduler[Caller, int] = Scheduler(1)
    queue = scheduler.add_queue("text", BatchLimits(max_rows=3, max_positions=1000))
    for positions in (10, 100, 9, 50, 10, 11):
        scheduler.submit(queue, Entry(1, positions, None, Caller(), positions))
    batch = scheduler.next_batch()
    assert batch is not None
    assert sorted(entry.payload for entry in batch.entries) == [9, 10, 10]


def test_a_row_larger_than_the_budget_runs_alone() -> None:
    scheduler: Scheduler[Caller, int] = Scheduler(1)
    queue = scheduler.add_queue("text", LIMITS)
    for number in range(2):
        scheduler.submit(queue, Entry(1, LIMITS.max_positions + 1, None, Caller(), number))
    batch = scheduler.next_batch()
    assert batch is not None
    assert [entry.payload for entry in batch.entries] == [0]
