"""Queues that hold what waits until a batch is full: the test, not the clock, fills a batch.

A held queue starts a batch when it has as many rows as a batch may hold. A test that sends
exactly so many decides what waits together, however slow the machine.

A call with a deadline before the end of the delay is not held back: send the calls that are
to be held without a timeout.
"""

# Longer than any test takes; a test that does not fill its batch ends then, and fails.
DELAY_US = 600_000_000

# Of a server whose queues are all held. One core: rows are not split between several.
FLAGS = ("--queue-delay-us", str(DELAY_US), "--compute-cores", "1")


def held_until(rows: int) -> dict[str, object]:
    """Return the config.json of an ONNX file whose requests wait until they have so many rows."""
    return {"max_batch_size": rows, "queue_delay_us": DELAY_US}
