"""The scheduler's promises, over random arrivals, lengths, deadlines, cancellations and runs."""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vecserve_server.scheduling.cost_model import CostModel, Sample
from vecserve_server.scheduling.deadline import NO_DEADLINE, Deadline
from vecserve_server.scheduling.fairness import BULK_ROWS
from vecserve_server.scheduling.options import BatchLimits, JobOptions, Priority
from vecserve_server.scheduling.queue import Entry, Queue
from vecserve_server.scheduling.scheduler import Batch, Scheduler

LIMITS = BatchLimits(max_rows=8, max_positions=400)
FIXED_S, ROW_S, POSITION_S = 0.002, 0.0002, 0.0001
# The longest that callers on their way back are awaited.
PATIENCE_S = 0.01


def true_seconds(rows: int, positions: int) -> float:
    """What a batch takes on the imaginary machine of these tests."""
    return FIXED_S + rows * (ROW_S + POSITION_S * positions)


def cost_model(speedup: float) -> CostModel:
    shapes = ((1, 8), (1, 100), (4, 8), (4, 50))
    return CostModel([Sample(*shape, true_seconds(*shape)) for shape in shapes], speedup)


@dataclass
class Simulation:
    """A scheduler with two queues, a clock, and what happened."""

    slots: int
    limits: BatchLimits = LIMITS
    speedup: float = 1.2
    now_s: float = 0.0
    ended_s: float = 0.0
    running: list[Batch[int]] = field(default_factory=list)
    waiting: dict[int, Entry[int]] = field(default_factory=dict)
    done: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.scheduler: Scheduler[int] = Scheduler(self.slots)
        self.queues = [
            Queue[int](name, self.limits, cost_model(self.speedup)) for name in ("a", "b")
        ]
        for queue in self.queues:
            self.scheduler.add(queue)
        self.submitted = 0

    def submit(
        self,
        positions: int = 10,
        *,
        rows: int = 1,
        caller: str = "someone",
        queue: int = 0,
        key: str = "",
        priority: Priority | None = None,
        within_s: float | None = None,
        peer: str | None = None,
    ) -> int:
        deadline = NO_DEADLINE if within_s is None else Deadline(self.now_s + within_s)
        terms = JobOptions(caller, priority, deadline, peer)
        entry = Entry(self.queues[queue], rows, positions, key, terms, self.submitted)
        self.waiting[self.submitted] = entry
        self.submitted += 1
        self.scheduler.submit(entry, self.now_s)
        self._collect_late()
        return entry.payload

    def withdraw(self, number: int) -> None:
        if number in self.waiting:
            self.scheduler.withdraw(self.waiting.pop(number))

    def take(self) -> Batch[int] | None:
        batch = self.scheduler.next_batch(self.now_s)
        self._collect_late()
        if batch is not None:
            for entry in batch.entries:
                del self.waiting[entry.payload]
                self.done.append(entry.payload)
            self.running.append(batch)
        return batch

    def finish(self, batch: Batch[int]) -> None:
        self.running.remove(batch)
        seconds = true_seconds(batch.rows, batch.longest)
        if batch.all_cores:
            seconds /= self.speedup
        self.now_s += seconds
        self.ended_s = self.now_s
        self.scheduler.finished(batch, seconds, self.now_s)

    def run_all(self) -> list[Batch[int]]:
        """Run, one batch at a time, until nothing waits; return the batches."""
        batches = []
        while True:
            while batch := self.take():
                batches.append(batch)
                self.finish(batch)
            if not self.waiting:
                return batches
            self.wait()

    def wait(self) -> None:
        """Let the time pass for which the scheduler holds jobs back."""
        wake_s = self.scheduler.next_wake_s()
        assert wake_s is not None
        self.now_s = wake_s

    def take_soon(self) -> Batch[int]:
        """Take the next batch, once callers who were just answered are awaited no longer."""
        batch = self.take()
        if batch is None:
            self.wait()
            batch = self.take()
        assert batch is not None
        return batch

    def free_slots(self) -> int:
        return self.slots - sum(self.slots if batch.all_cores else 1 for batch in self.running)

    def _collect_late(self) -> None:
        while self.scheduler.late:
            entry = self.scheduler.late.popleft()
            assert entry.deadline_s < math.inf
            del self.waiting[entry.payload]
            self.done.append(entry.payload)


_steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("submit"),
            st.fixed_dictionaries(
                {
                    "positions": st.integers(1, 150),
                    "rows": st.sampled_from([1, 1, 1, 2, 9]),
                    "caller": st.sampled_from("xyz"),
                    "queue": st.integers(0, 1),
                    "key": st.sampled_from(["", "other"]),
                    "priority": st.sampled_from([None, *Priority]),
                    "within_s": st.sampled_from([None, None, 0.001, 0.02, 0.5]),
                }
            ),
        ),
        st.tuples(st.just("withdraw"), st.integers(0, 60)),
        st.tuples(st.just("take"), st.just(0)),
        st.tuples(st.just("finish"), st.integers(0, 3)),
        st.tuples(st.just("pass"), st.floats(0, 0.05)),
    ),
    max_size=100,
)


@settings(max_examples=400, deadline=None)
@given(slots=st.integers(1, 3), speedup=st.sampled_from([1.0, 1.2, 2.5]), steps=_steps)
def test_every_job_is_answered_once_in_a_legal_batch(
    slots: int, speedup: float, steps: list[tuple[str, Any]]
) -> None:
    simulation = Simulation(slots, speedup=speedup)

    def take() -> None:
        free, waited = simulation.free_slots(), bool(simulation.waiting)
        batch = simulation.take()
        # Work-conserving: without a batch there is no slot, or nothing waits (any more),
        # or callers just answered are on their way back.
        wake_s = simulation.scheduler.next_wake_s()
        if batch is None and free and simulation.waiting:
            assert wake_s is not None
            assert simulation.now_s < wake_s <= simulation.ended_s + PATIENCE_S
        if batch is None:
            return
        assert free > 0
        assert waited
        assert len({(id(entry.queue), entry.key) for entry in batch.entries}) == 1
        if len(batch.entries) > 1:
            assert batch.rows <= LIMITS.max_rows
            assert batch.rows * batch.longest <= LIMITS.max_positions
        for entry in batch.entries:
            assert simulation.now_s < entry.deadline_s

    for action, value in steps:
        if action == "submit":
            simulation.submit(**value)
        elif action == "withdraw":
            simulation.withdraw(value)
        elif action == "take":
            take()
        elif action == "finish" and simulation.running:
            simulation.finish(simulation.running[value % len(simulation.running)])
        elif action == "pass":
            simulation.now_s += value
    while simulation.waiting or simulation.running:
        if simulation.running:
            simulation.finish(simulation.running[0])
        else:
            simulation.now_s = max(simulation.now_s, simulation.scheduler.next_wake_s() or 0.0)
        take()
    assert len(simulation.done) == len(set(simulation.done))


@settings(max_examples=100, deadline=None)
@given(
    lengths=st.lists(st.integers(40, 60), min_size=200, max_size=200),
    pours=st.integers(20, 150),
)
def test_two_callers_get_the_same_compute(lengths: list[int], pours: int) -> None:
    """To within a batch of each, while each has a batch of its own to fill."""
    simulation = Simulation(slots=1)
    callers = {}
    for number, length in enumerate(lengths):
        caller = "much" if number < pours else "more"
        callers[simulation.submit(length, caller=caller, priority=Priority.BULK)] = caller
    got = {"much": 0.0, "more": 0.0}
    left = {caller: list(callers.values()).count(caller) for caller in got}
    largest = 0.0
    while min(left.values()) >= LIMITS.max_rows:
        batch = simulation.take()
        assert batch is not None
        largest = max(largest, true_seconds(batch.rows, batch.longest))
        alone = sum(true_seconds(entry.rows, entry.positions) for entry in batch.entries)
        for entry in batch.entries:
            share = true_seconds(entry.rows, entry.positions) / alone
            caller = callers[entry.payload]
            got[caller] += share * true_seconds(batch.rows, batch.longest)
            left[caller] -= 1
        simulation.finish(batch)
        assert abs(got["much"] - got["more"]) <= 2 * largest


@pytest.mark.parametrize("comes_anew", [False, True])
def test_many_streams_of_a_peer_get_what_the_one_of_another_gets(comes_anew: bool) -> None:
    """Whether the streams stay, or each new job comes on a stream of its own."""
    simulation = Simulation(slots=1)
    of_flood: set[int] = set()

    def flood(stream: int) -> None:
        of_flood.add(simulation.submit(caller=f"stream-{stream}", peer="flood"))

    for number in range(400):
        flood(number)
    for _ in range(200):
        simulation.submit(caller="honest", peer="honest", priority=Priority.INTERACTIVE)
    rows = {True: 0, False: 0}
    for number in range(20):
        batch = simulation.take()
        assert batch is not None
        for entry in batch.entries:
            rows[entry.payload in of_flood] += 1
            if entry.payload in of_flood:
                flood(1000 + entry.payload if comes_anew else entry.payload % 400)
        simulation.finish(batch)
        assert abs(rows[True] - rows[False]) <= 2 * LIMITS.max_rows, number


def test_a_lone_caller_is_next_whatever_pours_in() -> None:
    simulation = Simulation(slots=1)
    for number in range(10_000):
        simulation.submit(10 + number % 50, caller="pouring")
    for _ in range(5):
        batch = simulation.take()
        assert batch is not None
        one = simulation.submit(12, caller="lone")
        simulation.finish(batch)
        following = simulation.take()
        assert following is not None
        assert one in [entry.payload for entry in following.entries]
        simulation.finish(following)


def test_who_pours_in_is_bulk_and_does_not_make_the_lone_one_wait_long() -> None:
    simulation = Simulation(slots=1)
    for _ in range(100):
        simulation.submit(100, caller="pouring")
    one = simulation.submit(10, caller="lone")
    assert simulation.waiting[one].priority is Priority.INTERACTIVE
    priorities = [entry.priority for entry in simulation.waiting.values()]
    assert priorities.count(Priority.BULK) == 100 - BULK_ROWS


def test_a_priority_earns_no_credit_while_it_is_idle() -> None:
    simulation = Simulation(slots=1)
    for number in range(1000):
        simulation.submit(caller=f"lone-{number % 7}")
        simulation.finish(simulation.take_soon())
    for _ in range(100):
        simulation.submit(caller="pouring", priority=Priority.BULK)
    one = simulation.submit(caller="lone")
    simulation.finish(simulation.take_soon())
    simulation.finish(simulation.take_soon())
    assert one in simulation.done


def test_bulk_work_is_not_starved() -> None:
    simulation = Simulation(slots=1)
    bulk = simulation.submit(10, caller="patient", priority=Priority.BULK)
    for number in range(200):
        simulation.submit(100, caller=f"hasty-{number}", priority=Priority.INTERACTIVE)
        batch = simulation.take()
        assert batch is not None
        simulation.finish(batch)
        if bulk in simulation.done:
            return
    raise AssertionError("200 interactive jobs went first")


def test_a_batch_takes_the_nearest_in_length_and_pads_little() -> None:
    simulation = Simulation(slots=1)
    lengths = [10, 100, 9, 12, 50, 11, 95, 3]
    numbers = {simulation.submit(length): length for length in lengths}
    groups = [
        sorted(numbers[entry.payload] for entry in batch.entries) for batch in simulation.run_all()
    ]
    assert groups[0] == [3, 9, 10, 11, 12]
    assert [95, 100] in groups


def test_only_jobs_of_one_key_share_a_batch() -> None:
    simulation = Simulation(slots=1)
    for key in ("square", "wide", "square"):
        simulation.submit(1, key=key)
    batches = simulation.run_all()
    assert [[entry.payload for entry in batch.entries] for batch in batches] == [[0, 2], [1]]


def test_two_idle_cores_share_what_waits() -> None:
    simulation = Simulation(slots=2, speedup=1.1)
    for _ in range(6):
        simulation.submit()
    first, second = simulation.take(), simulation.take()
    assert first is not None
    assert second is not None
    assert (first.rows, second.rows) == (3, 3)
    assert not first.all_cores


def test_many_jobs_run_batch_after_batch_on_all_cores_where_that_is_as_fast() -> None:
    simulation = Simulation(slots=2, speedup=1.8)
    for _ in range(6):
        simulation.submit()
    first = simulation.take()
    assert first is not None
    assert first.all_cores
    assert first.rows == 6
    for _ in range(4):
        simulation.submit()
    assert simulation.take() is None
    simulation.finish(first)
    second = simulation.take_soon()
    assert (second.all_cores, second.rows) == (True, 4)


@pytest.mark.parametrize("gains", [True, False], ids=["gains by sharing", "gains nothing"])
def test_many_long_jobs_take_a_core_each(gains: bool) -> None:
    simulation = Simulation(slots=2, speedup=1.8)
    if gains:
        simulation.queues[0].cost = CostModel([Sample(1, 1, 0.03), Sample(2, 1, 0.04)], speedup=1.8)
    for _ in range(6):
        simulation.submit(1 if gains else 120)
    first, second = simulation.take(), simulation.take()
    assert first is not None
    assert second is not None
    assert not first.all_cores


def test_a_batch_grows_long_only_where_that_saves_much() -> None:
    def rows_of_first_batch(fixed_s: float, row_s: float) -> int:
        simulation = Simulation(slots=1)
        samples = [Sample(rows, 1, fixed_s + rows * row_s) for rows in (1, 2, 4)]
        simulation.queues[0].cost = CostModel(samples, speedup=1.0)
        for _ in range(8):
            simulation.submit(1, caller="pouring", priority=Priority.BULK)
        batch = simulation.take()
        assert batch is not None
        return batch.rows

    # Half as long again a row alone as in a batch: worth it for a while.
    assert rows_of_first_batch(fixed_s=0.02, row_s=0.04) == 4
    assert rows_of_first_batch(fixed_s=0.005, row_s=0.055) == 1


def test_a_lone_job_takes_all_cores() -> None:
    simulation = Simulation(slots=2)
    simulation.submit()
    batch = simulation.take()
    assert batch is not None
    assert batch.all_cores
    simulation.submit()
    assert simulation.take() is None
    simulation.finish(batch)
    simulation.take_soon()


def test_callers_in_a_loop_stay_together() -> None:
    """The first of them to be back does not start alone, and leave the others behind."""
    simulation = Simulation(slots=2, speedup=1.8)
    for number in range(5):
        simulation.submit(caller=f"loop-{number}")
    for _ in range(20):
        batch = simulation.take()
        assert batch is not None
        assert (batch.all_cores, batch.rows) == (True, 5)
        simulation.finish(batch)
        for number in range(5):
            simulation.now_s += 0.0001
            assert simulation.take() is None
            simulation.submit(caller=f"loop-{number}")


def test_cores_share_a_loop_evenly() -> None:
    """However few came first: what waits and what runs is split anew each time."""
    simulation = Simulation(slots=2, speedup=0.9)
    simulation.submit()
    first = simulation.take()
    for _ in range(7):
        simulation.submit()
    second = simulation.take()
    assert first is not None
    assert second is not None
    for _ in range(20):
        simulation.finish(first)
        for _ in range(first.rows):
            simulation.submit()
        first, second = second, simulation.take()
        assert second is not None
    assert (first.rows, second.rows) == (4, 4)


def test_who_does_not_come_back_is_not_awaited_for_long() -> None:
    simulation = Simulation(slots=1)
    waits = 0
    for number in range(64):
        for one in range(4):
            simulation.submit(caller=f"{number}-{one}")
        batch = simulation.take()
        if batch is None:
            waits += 1
            batch = simulation.take_soon()
        simulation.finish(batch)
        simulation.submit(caller=f"late-{number}")
        batch = simulation.take()
        if batch is None:
            waits += 1
            batch = simulation.take_soon()
        simulation.finish(batch)
        simulation.now_s += 0.02
    assert waits < 20


def test_nobody_waits_for_the_callers_of_another_graph() -> None:
    simulation = Simulation(slots=1)
    simulation.submit()
    simulation.submit()
    batch = simulation.take()
    assert batch is not None
    simulation.finish(batch)
    simulation.submit(queue=0)
    simulation.submit(queue=1)
    assert simulation.take() is not None


def test_nobody_waits_for_batch_mates_past_the_own_deadline() -> None:
    simulation = Simulation(slots=1)
    for _ in range(4):
        simulation.submit(100)
    batch = simulation.take()
    assert batch is not None
    simulation.finish(batch)
    tight = true_seconds(1, 10) + 0.003
    simulation.submit(10, within_s=tight)
    assert simulation.take() is not None


def test_a_lone_caller_is_not_protected_from_the_own_bulk() -> None:
    simulation = Simulation(slots=1, limits=BatchLimits(max_rows=64, max_positions=4000))
    for _ in range(2 * BULK_ROWS):
        simulation.submit()
    assert {entry.priority for entry in simulation.waiting.values()} == set(Priority)
    batch = simulation.take()
    assert batch is not None
    assert batch.rows == 2 * BULK_ROWS


def test_bulk_runs_in_shorter_batches_while_somebody_else_asks_for_single_things() -> None:
    simulation = Simulation(slots=1, limits=BatchLimits(max_rows=64, max_positions=6400))

    def longest_s() -> float:
        for _ in range(64):
            simulation.submit(50, caller="pouring", priority=Priority.BULK)
        return max(true_seconds(batch.rows, batch.longest) for batch in simulation.run_all())

    alone_s = longest_s()
    simulation.submit(caller="pouring")
    assert longest_s() == alone_s
    simulation.submit(caller="lone")
    assert longest_s() <= 0.03 < alone_s
    simulation.now_s += 2.0
    assert longest_s() == alone_s


def test_a_long_job_leaves_a_core_to_other_graphs() -> None:
    simulation = Simulation(slots=2)
    simulation.submit(1500)
    batch = simulation.take()
    assert batch is not None
    assert not batch.all_cores
    simulation.finish(batch)
    simulation.scheduler.remove(simulation.queues[1])
    simulation.submit(1500)
    alone = simulation.take()
    assert alone is not None
    assert alone.all_cores


def test_the_earliest_deadline_goes_first_and_age_counts_as_one() -> None:
    simulation = Simulation(slots=1)
    lengths = {"old": 10, "later": 60, "soon": 150}
    old = simulation.submit(lengths["old"])
    simulation.now_s += 0.9
    later = simulation.submit(lengths["later"], within_s=0.5)
    soon = simulation.submit(lengths["soon"], within_s=0.3)
    simulation.run_all()
    # The old one is due at 1.0: a second after it came.
    assert [number for number in simulation.done if number in (old, later, soon)] == [
        old,
        soon,
        later,
    ]


def test_what_cannot_be_in_time_is_refused_on_arrival_or_dropped_before_it_costs() -> None:
    simulation = Simulation(slots=1)
    for _ in range(50):
        simulation.submit(100, caller="pouring")
    refused = simulation.submit(100, caller="pouring", within_s=0.05)
    assert refused in simulation.done
    in_time = simulation.submit(100, caller="lone", within_s=0.5)
    assert in_time in simulation.waiting
    simulation.now_s += 1
    batch = simulation.take()
    assert in_time in simulation.done
    assert batch is not None
    assert in_time not in [entry.payload for entry in batch.entries]


def test_batch_mates_make_nobody_late() -> None:
    simulation = Simulation(slots=1)
    simulation.submit(100, caller="pouring")
    for _ in range(4):
        simulation.submit(100, caller="hurried", within_s=2.5 * true_seconds(1, 100))
    batch = simulation.take()
    assert batch is not None
    assert batch.rows == 2
    in_time = simulation.now_s + true_seconds(batch.rows, batch.longest)
    assert all(in_time < entry.deadline_s for entry in batch.entries)


def test_a_job_that_only_all_cores_can_answer_in_time_gets_them() -> None:
    simulation = Simulation(slots=2, speedup=1.8)
    hurried = simulation.submit(150, caller="hurried", within_s=true_seconds(1, 150) / 1.3)
    simulation.submit(150, caller="other")
    batch = simulation.take()
    assert batch is not None
    assert batch.all_cores
    assert [entry.payload for entry in batch.entries] == [hurried]


def test_twice_what_it_can_do_costs_little_of_what_it_does() -> None:
    """Goodput at twice the capacity, every job with a deadline of five times its own time."""
    simulation = Simulation(slots=1)
    lengths = [10 + 7 * number % 140 for number in range(2000)]
    all_s = sum(true_seconds(1, length) for length in lengths)
    pause_s = all_s / len(lengths) / 2
    came_s = 0.0
    worth_s = 0.0
    for length in lengths:
        simulation.submit(length, within_s=5 * true_seconds(1, 80))
        came_s += pause_s
        while simulation.now_s < came_s and (batch := simulation.take()):
            simulation.finish(batch)
            for entry in batch.entries:
                if simulation.now_s <= entry.deadline_s:
                    worth_s += true_seconds(entry.rows, entry.positions)
        simulation.now_s = max(simulation.now_s, came_s)
    assert worth_s > 0.9 * simulation.now_s


def test_who_cannot_afford_the_delay_does_not_wait_for_batch_mates() -> None:
    simulation = Simulation(slots=1, limits=dataclasses.replace(LIMITS, delay_s=0.1))
    hasty = simulation.submit(within_s=0.05)
    batch = simulation.take()
    assert batch is not None
    assert [entry.payload for entry in batch.entries] == [hasty]


def test_a_queue_with_a_delay_waits_for_batch_mates() -> None:
    simulation = Simulation(slots=1, limits=dataclasses.replace(LIMITS, delay_s=0.01))
    simulation.submit()
    assert simulation.take() is None
    assert simulation.scheduler.next_wake_s() == pytest.approx(0.01)
    simulation.now_s = 0.004
    gone = simulation.submit()
    simulation.submit()
    simulation.withdraw(gone)
    simulation.now_s = 0.01
    batch = simulation.take()
    assert batch is not None
    assert batch.rows == 2
    simulation.finish(batch)
    # A full batch does not wait.
    for _ in range(LIMITS.max_rows):
        simulation.submit()
    full = simulation.take()
    assert full is not None
    assert full.rows == LIMITS.max_rows
    assert simulation.scheduler.next_wake_s() is None


def test_the_cost_model_learns_from_what_ran() -> None:
    cost = CostModel([Sample(1, 1, 0.001)], speedup=1.0)
    for rows in (1, 2, 4, 8, 16):
        for positions in (5, 20, 80, 200):
            for _ in range(4):
                cost.observe(Sample(rows, positions, true_seconds(rows, positions)))
    for rows, positions in ((3, 10), (8, 150), (32, 32)):
        assert cost.seconds(rows, positions) == pytest.approx(
            true_seconds(rows, positions), rel=0.1
        )


def test_the_cost_model_learns_what_all_cores_do() -> None:
    """A batch size at a time, whatever was measured at the start."""
    cost = cost_model(speedup=1.0)
    for _ in range(50):
        cost.observe_on_all(Sample(8, 20, true_seconds(8, 20) / 1.8))
    assert cost.speedup(8) == pytest.approx(1.8, rel=0.1)
    assert cost.speedup(1) == 1.0


def test_a_slow_start_on_all_cores_is_not_held_against_them_for_ever() -> None:
    simulation = Simulation(slots=2, speedup=1.8)
    for queue in simulation.queues:
        queue.cost = cost_model(speedup=0.9)
    for _ in range(200):
        simulation.submit()
        simulation.finish(simulation.take_soon())
    simulation.submit()
    batch = simulation.take_soon()
    assert batch.all_cores


def test_a_prediction_is_corrected_where_long_rows_together_take_longer() -> None:
    cost = cost_model(speedup=1.0)
    for _ in range(20):
        for rows, factor in ((1, 1.0), (2, 1.2)):
            for positions in (20, 150):
                slower = factor if positions == 150 else 1.0
                cost.observe(Sample(rows, positions, slower * true_seconds(rows, positions)))
    assert cost.seconds(2, 150) > 2 * cost.seconds(1, 150)
    assert cost.seconds(2, 20) < 2 * cost.seconds(1, 20)


def test_a_correction_between_sizes_ends_no_batch() -> None:
    """Batches of eight and more took half as long again: the eighth row saves still."""
    simulation = Simulation(slots=1, limits=BatchLimits(max_rows=32, max_positions=3200))
    cost = simulation.queues[0].cost
    for _ in range(8):
        for rows in (1, 2, 4, 6, 8, 12, 16, 24):
            slower = 1.5 if rows >= 8 else 1.0
            cost.observe(Sample(rows, 4, slower * true_seconds(rows, 4)))
    for _ in range(32):
        simulation.submit(4)
    batch = simulation.take()
    assert batch is not None
    assert batch.rows > 7
