"""Turns pretrained PyTorch models into verified ONNX bundles for vecserve-server."""
