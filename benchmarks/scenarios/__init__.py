"""Scenarios of `make bench`.

    scheduler     CPU time of the scheduler an item
    footprint     memory, and time from start to ready
    tensors       tensors over the Open Inference Protocol, beside peers
    streams       texts, photos and speech on streams
    contention    latency beside a bulk stream; goodput under overload

A scenario is a function that takes a `BenchContext`; `benchmarks.run` lists them.
"""
