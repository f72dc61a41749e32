"""Exporter of pretrained PyTorch models to verified ONNX bundles for vecserve-server."""
