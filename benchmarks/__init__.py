"""Benchmarks of vecserve beside in-process ONNX Runtime and peer servers.

    run, context, servers    `make bench`: the command, what scenarios share, server processes
    scenarios/               what is measured: one function a scenario
    baselines/               ONNX Runtime in a process of its own
    peers/                   launch scripts of MLServer, Triton's core and kserve
    mlperf/                  `make mlperf`: MLPerf LoadGen
    gpu/                     `make bench-gpu`: an NVIDIA card
    results/                 what was measured: one JSON and one picture a machine

How to run them is in benchmarks/README.md.
"""
