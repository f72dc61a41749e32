"""Command-line values of `vecserve bench`, parsed into loads, targets and numbers."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vecserve.bench.load import Load
from vecserve.bench.targets import BenchError, Target


def loads(base: Load, callers: Sequence[int], rates: Sequence[float]) -> list[Load]:
    """Return `base` with each number of callers, or at each rate."""
    if base.trace or rates:
        if base.trace and rates:
            raise BenchError("--rate and --arrivals both set send times: give one")
        streams = callers[0] if base.stream else 1
        base = replace(base, concurrency=streams)
        loads = [replace(base, rate=rate) for rate in rates] or [base]
    else:
        loads = [replace(base, concurrency=count) for count in callers]
    for load in loads:
        check_pool(load)
    return loads


def check_pool(load: Load) -> None:
    """Raise BenchError if streams could have more messages in flight than the pool has."""
    if load.stream and load.concurrency * load.in_flight > load.pool:
        raise BenchError(
            f"{load.concurrency} streams of {load.in_flight} messages in flight are more than the "
            f"{load.pool} a load has: lower one, or give each message more --items"
        )


def parse_targets(texts: Sequence[str]) -> list[Target]:
    """Return the targets that the texts name, with unique names. Raises BenchError."""
    found = [Target.parse(text) for text in texts]
    names = [target.name for target in found]
    if len(set(names)) < len(names):
        raise BenchError(f"two targets have one name: {', '.join(names)}")
    return found


def parse_pids(texts: Sequence[str], targets: Sequence[Target]) -> dict[str, int]:
    """Return process ids by target, from NAME=PID. Raises BenchError."""
    names = {target.name for target in targets}
    found = {}
    for text in texts:
        name, _, number = text.partition("=")
        if name not in names or not number.isdecimal():
            raise BenchError(f"--pid {text!r}: write NAME=PID, with a target's name")
        found[name] = int(number)
    return found


def token_range(text: str) -> tuple[int, int]:
    """Return the range of N or LOW..HIGH. Raises BenchError."""
    low, dots, high = text.partition("..")
    try:
        found = int(low), int(high if dots else low)
    except ValueError:
        raise BenchError(f"--tokens {text!r}: write a number, or LOW..HIGH") from None
    if not 2 <= found[0] <= found[1]:
        raise BenchError(f"--tokens {text!r}: at least 2, the special ones, and LOW <= HIGH")
    return found


def parse_rates(text: str | None) -> list[float]:
    """Return the rates of a comma-separated list. Raises BenchError."""
    try:
        found = [float(part) for part in text.split(",")] if text else []
    except ValueError:
        raise BenchError(f"--rate {text!r}: write numbers with commas between") from None
    if any(rate <= 0 for rate in found):
        raise BenchError(f"--rate {text!r}: rates are above 0")
    return found


def parse_callers(text: str) -> list[int]:
    """Return the numbers of callers of a comma-separated list. Raises BenchError."""
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        raise BenchError(f"--concurrency {text!r}: write numbers with commas between") from None
    if any(count < 1 for count in found):
        raise BenchError(f"--concurrency {text!r}: at least 1")
    return found


def read_trace(path: Path | None) -> tuple[float, ...]:
    """Return the send times that a file lists, in seconds. Raises BenchError."""
    if path is None:
        return ()
    try:
        times = tuple(float(line) for line in path.read_text().split())
    except ValueError as error:
        raise BenchError(f"{path} is no list of seconds: {error}") from error
    if not times or list(times) != sorted(times) or times[0] < 0 or times[-1] <= 0:
        raise BenchError(f"{path} must hold send times in seconds from 0, in order")
    return times
