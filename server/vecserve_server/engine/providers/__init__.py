"""Execution providers of ONNX Runtime: CPU, CUDA, OpenVINO."""
