"""Benchmark on an NVIDIA card: ONNX Runtime, PyTorch and vecserve beside the card's roofline.

    __main__         the command: one JSON and one table
    workloads        models, and the kinds of items sent to them
    profile          batch sizes, loads and durations: a card's, or a dry run's on the CPU
    model            one model: its bundle, its PyTorch module, its inputs
    timing           latency and throughput of a call
    onnxruntime      (a) ONNX Runtime with IO binding
    torch_compiled   (b) PyTorch, compiled
    server           (c) vecserve, streams of batches
    roofline         the device's peak rates, and the bound that they put on a model
    utilisation      share of time in which the card was busy, by NVML
    report           the ratios and the table

Of it only (c) has been run on a card yet: a dry run takes the same code to the CPU.
"""
