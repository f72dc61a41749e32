"""Client process of a target: `python -m vecserve.bench.worker TARGET`.

The protocol, which any `exec:` target speaks too. A line of JSON on stdin is a
RoundSpec (`load.RoundSpec.to_json`); its answer is a line of JSON on stdout:

    {"samples": Samples.to_json(), "cpu_s": ..., "untrained": [...], "note": "..."}
    {"error": "cause, and what to do"}

`cpu_s` is this process's CPU time in the round, `note` a remark for the
report's table. The end of stdin ends the process.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable

from vecserve.bench.driver import Driver
from vecserve.bench.load import Load, RoundSpec
from vecserve.bench.oip import OipWire
from vecserve.bench.targets import BenchError, Target
from vecserve.bench.typed import TypedWire
from vecserve.bench.wire import Wire


async def serve(target: Target) -> None:
    """Run the rounds that lines on stdin ask for, until it ends; one driver a load is kept."""
    wire: Wire | None = None
    connect: Callable[[Target], Wire] = TypedWire if target.kind == "typed" else OipWire
    drivers: dict[Load, Driver] = {}
    loop = asyncio.get_running_loop()
    try:
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            spec = RoundSpec.from_json(json.loads(line))
            try:
                if wire is None:
                    wire = connect(target)
                if spec.load not in drivers:
                    driver = Driver(wire, target.address, spec.load)
                    drivers[spec.load] = await driver.__aenter__()
                    await driver.check()
                began_s = time.process_time()
                samples = await drivers[spec.load].round(spec)
                _answer(
                    {
                        "samples": samples.to_json(),
                        "cpu_s": time.process_time() - began_s,
                        "untrained": wire.untrained,
                        "note": "",
                    }
                )
            except BenchError as error:
                _answer({"error": str(error)})
    finally:
        for driver in drivers.values():
            await driver.__aexit__()


def _answer(fields: dict[str, object]) -> None:
    print(json.dumps(fields), flush=True)


if __name__ == "__main__":
    asyncio.run(serve(Target.parse(sys.argv[1])))
