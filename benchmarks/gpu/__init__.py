"""Measures an NVIDIA card: ONNX Runtime, PyTorch and our server beside what the card could do.

    __main__       the command: one JSON and one table
    workloads      what is measured
    size           how much of it: a card's, or a dry run's on the CPU
    subject        one model: its bundle, its PyTorch module, its inputs
    timing         how long a call takes
    in_process     (a) ONNX Runtime with IO binding
    compiled       (b) PyTorch, compiled
    served         (c) our server, streams of batches
    limit          what the device does at best, and what a model needs of it
    utilisation    how busy the card was, by NVML
    report         the ratios and the table

None of it has been run on a card yet: a dry run takes the same code to the CPU.
"""
