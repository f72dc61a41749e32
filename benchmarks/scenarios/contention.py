"""Contention: latency of single items beside a bulk stream, and goodput under overload."""

from dataclasses import replace
from urllib.request import urlopen

from benchmarks.context import MINILM, VECSERVE, BenchContext, p50, p99, part_of, throughput
from vecserve.bench.load import Load

# A sentence a second would need minutes for a p99; at this rate the server is as idle.
_SENTENCES_A_SECOND = 5.0
_MAX_BULK_LOSS = 0.10
_OVERLOAD = 2.0
_DEADLINE_SERVICE_TIMES = 5.0


def interference(context: BenchContext) -> None:
    """Single sentences at a low rate, alone and beside a stream that saturates the server."""
    plan = replace(context.plan, seconds=context.plan.seconds * 2)
    single = (context.typed(MINILM, "single"), Load(rate=_SENTENCES_A_SECOND))
    bulk = (context.typed(MINILM, "bulk"), Load(stream=True, items=32, in_flight=8))
    before = _compute_s(context)
    cases = context.measure("beside a bulk stream", [[single], [bulk], [single, bulk]], plan=plan)
    seconds, items = (now - was for now, was in zip(_compute_s(context), before, strict=True))
    batch_ms = seconds / items * 1000
    idle, alone, (beside, bulk_beside) = cases[0].parts[0], cases[1].parts[0], cases[2].parts
    context.note(f"the bulk stream's mean batch took {batch_ms:.1f} ms")
    allowed_ms = 2.5 * p99(idle) + batch_ms
    context.check("a sentence beside bulk: p99", p99(beside), "<=", allowed_ms, "ms")
    lost = 1 - throughput(bulk_beside) / throughput(alone)
    context.check("bulk beside sentences: items/s lost", lost, "<=", _MAX_BULK_LOSS)


def overload(context: BenchContext) -> None:
    """Twice the capacity, open loop, with a deadline; and again with the server not told of it."""
    server = context.typed(MINILM)
    full = Load(tokens=(3, 209), concurrency=32)
    cases = context.measure(
        "capacity", [[(server, replace(full, concurrency=1))], [(server, full)]], reference=None
    )
    service_ms = p50(part_of(cases, VECSERVE, "c1"))
    capacity = throughput(part_of(cases, VECSERVE, "c32"))
    told = replace(
        full,
        rate=round(_OVERLOAD * capacity),
        deadline_ms=round(_DEADLINE_SERVICE_TIMES * service_ms, 1),
    )
    loads = [told, replace(told, tell_deadline=False)]
    cases = context.measure("overload", [[(server, load)] for load in loads], reference=None)
    told_rate, untold_rate = (
        sum(one.goodput_rate for one in case.parts[0].rounds) / len(case.parts[0].rounds)
        for case in cases
    )
    context.check("2x overload: goodput over capacity", told_rate / capacity, ">=", 0.9)
    context.note(
        f"2x overload without deadlines told, first come first served: goodput "
        f"{untold_rate / capacity:.2f} of capacity"
    )


def _compute_s(context: BenchContext) -> tuple[float, float]:
    """Return the seconds of the batches that MiniLM's items were in, summed, and the items."""
    with urlopen(context.server().metrics_url) as page:
        lines = page.read().decode().splitlines()
    name = "vecserve_item_compute_seconds"
    found = []
    for part in ("sum", "count"):
        start = f'{name}_{part}{{model="{MINILM}"}}'
        found.append(sum(float(line.split()[-1]) for line in lines if line.startswith(start)))
    return found[0], found[1]
