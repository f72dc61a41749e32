"""Tensors of 16 tokens, and of mixed lengths: ours, the limit, the peers."""

from dataclasses import replace
from pathlib import Path

from benchmarks.context import MINILM, House, p50, p99, part_of, precision_of, throughput
from benchmarks.servers import ours_in_openvino
from vecserve.bench.load import Load
from vecserve.bench.measure import Case
from vecserve.bench.targets import Target

SHORT = Load(tokens=(16, 16))
MIXED = Load(tokens=(3, 209))
# Where the bars are.
_PRESSURES = ("c8", "c32")
_CPU_INFO = Path("/proc/cpuinfo")
_CPU_HAS_BFLOAT16 = _CPU_INFO.is_file() and "bf16" in _CPU_INFO.read_text()


def short(house: House) -> None:
    """16 tokens, fp32: 1, 8 and 32 callers, and one open stream."""
    ours = _ours(house, MINILM)
    loads = [replace(SHORT, concurrency=callers) for callers in (1, 8, 32)]
    cases = _measure(house, "16 tokens", ours, MINILM, loads, stream=replace(SHORT, stream=True))
    limit = p50(part_of(cases, "limit", "c1"))
    unary = p50(part_of(cases, "ours", "c1"))
    (streamed,) = (part for case in cases for part in case.parts if part.load.stream)
    house.bar("16 tokens c1: p50 over the limit's, unary", unary - limit, "<=", 1.0, "ms")
    house.bar("16 tokens c1: p50 over the limit's, stream", p50(streamed) - limit, "<=", 0.6, "ms")
    _bars(house, "16 tokens", cases, of_limit=0.88, of_peer=1.4)


def mixed(house: House) -> None:
    """3 to 209 tokens, shuffled, fp32: 8 and 32 callers."""
    loads = [replace(MIXED, concurrency=callers) for callers in (8, 32)]
    cases = _measure(house, "3-209 tokens", _ours(house, MINILM), MINILM, loads)
    _bars(house, "3-209 tokens", cases, of_limit=0.95, of_peer=1.25, p99_of_peer=0.8)


def other_precisions(house: House) -> None:
    """Both again for every bundle of MiniLM that is not fp32, beside peers that serve the same."""
    names = [
        folder.name
        for folder in sorted(house.models.glob(f"{MINILM}*"))
        if precision_of(house.bundle(folder.name)) != "fp32"
    ]
    if not names:
        house.note("no bundle of MiniLM but fp32's: other precisions were not measured")
    for name in names:
        title = precision_of(house.bundle(name))
        ours = _ours(house, name)
        loads = [replace(SHORT, concurrency=callers) for callers in (1, 8, 32)]
        cases = _measure(house, f"{title}, 16 tokens", ours, name, loads)
        _bars(house, f"{title}, 16 tokens", cases, of_limit=0.88, of_peer=1.4)
        loads = [replace(MIXED, concurrency=callers) for callers in (8, 32)]
        cases = _measure(house, f"{title}, 3-209 tokens", ours, name, loads)
        _bars(house, f"{title}, 3-209 tokens", cases, of_limit=0.95, of_peer=1.25)


def recommended(house: House) -> None:
    """Mixed lengths in the precision we recommend: OpenVINO's bfloat16, beside peers in fp32."""
    if not _CPU_HAS_BFLOAT16:
        house.note("this processor has no bfloat16: we recommend fp32 for it, as in `mixed`")
        return
    server = house.servers.enter_context(ours_in_openvino(house.models, MINILM))
    parity = next(line for line in server.log.splitlines() if "min cosine" in line)
    house.note(parity.split(": ", 1)[1])
    ours = Target("ours", "oip", f"{server.address}/{MINILM}.text")
    for title, load, of_peer in (("16 tokens", SHORT, 1.4), ("3-209 tokens", MIXED, 2.2)):
        title = f"bfloat16, {title}"
        loads = [replace(load, concurrency=callers) for callers in (8, 32)]
        cases = _measure(house, title, ours, MINILM, loads, pid=server.pid)
        _peer_bars(house, title, cases, of_peer=of_peer)


def _ours(house: House, model: str) -> Target:
    return house.tensors(model) or house.typed(model)


def _measure(
    house: House,
    title: str,
    ours: Target,
    model: str,
    loads: list[Load],
    stream: Load | None = None,
    pid: int | None = None,
) -> list[Case]:
    peers = house.peers(house.bundle(model) / "text.onnx")
    targets = [ours, house.limit(model)]
    targets += [Target(peer.name, "oip", f"{peer.address}/{MINILM}") for peer in peers]
    pairs = [[(target, load)] for load in loads for target in targets]
    if stream:
        pairs.append([(ours, stream)])
    pids = {peer.name: peer.pid for peer in peers} | ({} if pid is None else {"ours": pid})
    return house.measure(title, pairs, pids=pids)


def _bars(
    house: House,
    title: str,
    cases: list[Case],
    *,
    of_limit: float,
    of_peer: float,
    p99_of_peer: float | None = None,
) -> None:
    for pressure in _PRESSURES:
        ours, limit = (part_of(cases, name, pressure) for name in ("ours", "limit"))
        share = throughput(ours) / throughput(limit)
        house.bar(f"{title} {pressure}: items/s over the limit's", share, ">=", of_limit)
    _peer_bars(house, title, cases, of_peer=of_peer, p99_of_peer=p99_of_peer)


def _peer_bars(
    house: House,
    title: str,
    cases: list[Case],
    *,
    of_peer: float,
    p99_of_peer: float | None = None,
) -> None:
    peers = sorted({part.target for case in cases for part in case.parts} - {"ours", "limit"})
    if not peers:
        return
    for pressure in _PRESSURES:
        ours = part_of(cases, "ours", pressure)
        best = max((part_of(cases, name, pressure) for name in peers), key=throughput)
        share = throughput(ours) / throughput(best)
        house.bar(f"{title} {pressure}: items/s over {best.target}'s", share, ">=", of_peer)
        if p99_of_peer is not None:
            share = p99(ours) / p99(best)
            house.bar(f"{title} {pressure}: p99 over {best.target}'s", share, "<=", p99_of_peer)
