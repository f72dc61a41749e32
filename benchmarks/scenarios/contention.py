"""How callers fare beside others, and all of them beyond what the server can do."""

from dataclasses import replace
from urllib.request import urlopen

from benchmarks.context import MINILM, House, p50, p99, part_of, throughput
from vecserve.bench.load import Load

# A sentence a second would need minutes for a p99; this many leave the server as idle.
_SENTENCES_A_SECOND = 5.0
_BULK_MAY_LOSE = 0.10
_OVERLOAD = 2.0
_DEADLINE_SERVICE_TIMES = 5.0


def interference(house: House) -> None:
    """One who sends a sentence now and then, alone and beside a stream that saturates."""
    plan = replace(house.plan, seconds=house.plan.seconds * 2)
    single = (house.typed(MINILM, "single"), Load(rate=_SENTENCES_A_SECOND))
    bulk = (house.typed(MINILM, "bulk"), Load(stream=True, items=32, in_flight=8))
    before = _compute_s(house)
    cases = house.measure("beside a bulk stream", [[single], [bulk], [single, bulk]], plan=plan)
    seconds, items = (now - was for now, was in zip(_compute_s(house), before, strict=True))
    batch_ms = seconds / items * 1000
    idle, alone, (beside, bulk_beside) = cases[0].parts[0], cases[1].parts[0], cases[2].parts
    house.note(f"the bulk stream's mean batch took {batch_ms:.1f} ms")
    allowed_ms = 2.5 * p99(idle) + batch_ms
    house.bar("a sentence beside bulk: p99", p99(beside), "<=", allowed_ms, "ms")
    lost = 1 - throughput(bulk_beside) / throughput(alone)
    house.bar("bulk beside sentences: items/s lost", lost, "<=", _BULK_MAY_LOSE)


def overload(house: House) -> None:
    """Twice the capacity, open loop, with a deadline; and the same if the server is not told it."""
    ours = house.typed(MINILM)
    full = Load(tokens=(3, 209), concurrency=32)
    cases = house.measure(
        "capacity", [[(ours, replace(full, concurrency=1))], [(ours, full)]], reference=None
    )
    service_ms = p50(part_of(cases, "ours", "c1"))
    capacity = throughput(part_of(cases, "ours", "c32"))
    told = replace(
        full,
        rate=round(_OVERLOAD * capacity),
        deadline_ms=round(_DEADLINE_SERVICE_TIMES * service_ms, 1),
    )
    loads = [told, replace(told, tell_deadline=False)]
    cases = house.measure("overload", [[(ours, load)] for load in loads], reference=None)
    good, blind = (
        sum(one.goodput_rate for one in case.parts[0].rounds) / len(case.parts[0].rounds)
        for case in cases
    )
    house.bar("2x overload: goodput over capacity", good / capacity, ">=", 0.9)
    house.note(
        f"2x overload without deadlines told, first come first served: goodput "
        f"{blind / capacity:.2f} of capacity"
    )


def _compute_s(house: House) -> tuple[float, float]:
    """Return the seconds of the batches that MiniLM's items were in, summed, and the items."""
    with urlopen(house.ours().metrics_url) as page:
        lines = page.read().decode().splitlines()
    name = "vecserve_item_compute_seconds"
    found = []
    for part in ("sum", "count"):
        start = f'{name}_{part}{{model="{MINILM}"}}'
        found.append(sum(float(line.split()[-1]) for line in lines if line.startswith(start)))
    return found[0], found[1]
