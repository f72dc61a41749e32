"""Tensors of 16 tokens and of mixed lengths, for vecserve, in-process and peers."""

from dataclasses import replace
from pathlib import Path

from benchmarks.context import (
    IN_PROCESS,
    MINILM,
    VECSERVE,
    BenchContext,
    p50,
    p99,
    part_of,
    precision_of,
    throughput,
)
from benchmarks.servers import vecserve_in_openvino
from vecserve.bench.load import Load
from vecserve.bench.measure import Case
from vecserve.bench.targets import Target

SHORT = Load(tokens=(16, 16))
MIXED = Load(tokens=(3, 209))
# Load levels that have thresholds.
_PRESSURES = ("c8", "c32")
_CPU_INFO = Path("/proc/cpuinfo")
_CPU_HAS_BFLOAT16 = _CPU_INFO.is_file() and "bf16" in _CPU_INFO.read_text()


def short(context: BenchContext) -> None:
    """16 tokens, fp32: 1, 8 and 32 callers, and one open stream."""
    server = _target(context, MINILM)
    loads = [replace(SHORT, concurrency=callers) for callers in (1, 8, 32)]
    cases = _measure(
        context, "16 tokens", server, MINILM, loads, stream=replace(SHORT, stream=True)
    )
    baseline = p50(part_of(cases, IN_PROCESS, "c1"))
    unary = p50(part_of(cases, VECSERVE, "c1"))
    (streamed,) = (part for case in cases for part in case.parts if part.load.stream)
    context.check("16 tokens c1: p50 over in-process, unary", unary - baseline, "<=", 1.0, "ms")
    context.check(
        "16 tokens c1: p50 over in-process, stream", p50(streamed) - baseline, "<=", 0.6, "ms"
    )
    _check(context, "16 tokens", cases, of_in_process=0.88, of_peer=1.4)


def mixed(context: BenchContext) -> None:
    """3 to 209 tokens, shuffled, fp32: 8 and 32 callers."""
    loads = [replace(MIXED, concurrency=callers) for callers in (8, 32)]
    cases = _measure(context, "3-209 tokens", _target(context, MINILM), MINILM, loads)
    _check(context, "3-209 tokens", cases, of_in_process=0.95, of_peer=1.25, p99_of_peer=0.8)


def other_precisions(context: BenchContext) -> None:
    """`short` and `mixed` for each bundle of MiniLM that is not fp32; peers serve the same."""
    names = [
        folder.name
        for folder in sorted(context.models.glob(f"{MINILM}*"))
        if precision_of(context.bundle(folder.name)) != "fp32"
    ]
    if not names:
        context.note("MiniLM has no bundle but the fp32 one: other precisions were not measured")
    for name in names:
        title = precision_of(context.bundle(name))
        server = _target(context, name)
        loads = [replace(SHORT, concurrency=callers) for callers in (1, 8, 32)]
        cases = _measure(context, f"{title}, 16 tokens", server, name, loads)
        _check(context, f"{title}, 16 tokens", cases, of_in_process=0.88, of_peer=1.4)
        loads = [replace(MIXED, concurrency=callers) for callers in (8, 32)]
        cases = _measure(context, f"{title}, 3-209 tokens", server, name, loads)
        _check(context, f"{title}, 3-209 tokens", cases, of_in_process=0.95, of_peer=1.25)


def recommended(context: BenchContext) -> None:
    """The recommended precision: OpenVINO's bfloat16, beside peers in fp32."""
    if not _CPU_HAS_BFLOAT16:
        context.note("this processor has no bfloat16: fp32 is recommended for it, as in `mixed`")
        return
    server = context.servers.enter_context(vecserve_in_openvino(context.models, MINILM))
    parity = next(line for line in server.log.splitlines() if "min cosine" in line)
    context.note(parity.split(": ", 1)[1])
    target = Target(VECSERVE, "oip", f"{server.address}/{MINILM}.text")
    for title, load, of_peer in (("16 tokens", SHORT, 1.4), ("3-209 tokens", MIXED, 2.2)):
        title = f"bfloat16 (others fp32), {title}"
        loads = [replace(load, concurrency=callers) for callers in (8, 32)]
        cases = _measure(context, title, target, MINILM, loads, pid=server.pid)
        _check_peers(context, title, cases, of_peer=of_peer)


def _target(context: BenchContext, model: str) -> Target:
    return context.oip(model) or context.typed(model)


def _measure(
    context: BenchContext,
    title: str,
    server: Target,
    model: str,
    loads: list[Load],
    stream: Load | None = None,
    pid: int | None = None,
) -> list[Case]:
    peers = context.peers(context.bundle(model) / "text.onnx")
    targets = [server, context.in_process(model)]
    targets += [Target(peer.name, "oip", f"{peer.address}/{MINILM}") for peer in peers]
    pairs = [[(target, load)] for load in loads for target in targets]
    if stream:
        pairs.append([(server, stream)])
    pids = {peer.name: peer.pid for peer in peers} | ({} if pid is None else {VECSERVE: pid})
    return context.measure(title, pairs, pids=pids)


def _check(
    context: BenchContext,
    title: str,
    cases: list[Case],
    *,
    of_in_process: float,
    of_peer: float,
    p99_of_peer: float | None = None,
) -> None:
    for pressure in _PRESSURES:
        server, in_process = (part_of(cases, name, pressure) for name in (VECSERVE, IN_PROCESS))
        share = throughput(server) / throughput(in_process)
        context.check(f"{title} {pressure}: items/s over in-process", share, ">=", of_in_process)
    _check_peers(context, title, cases, of_peer=of_peer, p99_of_peer=p99_of_peer)


def _check_peers(
    context: BenchContext,
    title: str,
    cases: list[Case],
    *,
    of_peer: float,
    p99_of_peer: float | None = None,
) -> None:
    peers = sorted({part.target for case in cases for part in case.parts} - {VECSERVE, IN_PROCESS})
    if not peers:
        return
    for pressure in _PRESSURES:
        server = part_of(cases, VECSERVE, pressure)
        best = max((part_of(cases, name, pressure) for name in peers), key=throughput)
        share = throughput(server) / throughput(best)
        context.check(f"{title} {pressure}: items/s over {best.target}'s", share, ">=", of_peer)
        if p99_of_peer is not None:
            share = p99(server) / p99(best)
            context.check(f"{title} {pressure}: p99 over {best.target}'s", share, "<=", p99_of_peer)
