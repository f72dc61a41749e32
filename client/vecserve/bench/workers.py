"""Client processes of one target, controlled over pipes."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from vecserve.bench.load import RoundSpec
from vecserve.bench.samples import Samples
from vecserve.bench.targets import BenchError, Target


@dataclass(frozen=True, slots=True)
class Report:
    """Joined report of a target's clients on one round."""

    samples: Samples
    client_cpu_s: float
    untrained: tuple[str, ...]
    note: str


class Workers:
    """A target's client processes, one for `exec`. A context manager: their lifetime."""

    def __init__(self, target: Target, processes: int) -> None:
        self.target = target
        self._processes = 1 if target.kind == "exec" else processes

    def __enter__(self) -> "Workers":
        own = [sys.executable, "-m", "vecserve.bench.worker", str(self.target)]
        command = self.target.command if self.target.kind == "exec" else own
        # gRPC's own log lines would break up the live table.
        environment = {"GRPC_VERBOSITY": "NONE"} | os.environ
        try:
            self._clients = [
                subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    env=environment,
                )
                for _ in range(self._processes)
            ]
        except OSError as error:
            raise BenchError(
                f"target {self.target.name}: cannot run {command[0]}: {error}"
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients:
            assert client.stdin
            with suppress(BrokenPipeError):
                client.stdin.close()
        for client in self._clients:
            client.wait()
            assert client.stdout
            client.stdout.close()

    def start(self, spec: RoundSpec) -> None:
        """Begin a round; `result` must follow."""
        for number, client in enumerate(self._clients):
            assert client.stdin
            share = replace(spec, share=(number, len(self._clients)))
            # One that has ended is reported by `result`.
            with suppress(BrokenPipeError):
                client.stdin.write(json.dumps(share.to_json()) + "\n")
                client.stdin.flush()

    def result(self) -> Report:
        """Wait for the round's end and join what the clients report. Raises BenchError."""
        answers = [self._answer(client) for client in self._clients]
        samples = Samples()
        for answer in answers:
            samples.join(Samples.from_json(answer["samples"]))
        return Report(
            samples,
            sum(answer["cpu_s"] for answer in answers),
            tuple(answers[0]["untrained"]),
            answers[0]["note"],
        )

    def _answer(self, client: "subprocess.Popen[str]") -> dict[str, Any]:
        assert client.stdout
        line = client.stdout.readline()
        if not line:
            raise BenchError(
                f"target {self.target.name}: its client process ended with code {client.wait()}; "
                "its messages are above"
            )
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise BenchError(answer["error"])
        return answer


@contextmanager
def open_workers(targets: Iterable[Target], processes: int) -> Iterator[dict[str, Workers]]:
    """Run the clients of all targets; yields them by the targets' names."""
    with ExitStack() as stack:
        yield {target.name: stack.enter_context(Workers(target, processes)) for target in targets}
