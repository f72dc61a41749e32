"""Baselines without a server: ONNX Runtime in a process of its own."""
