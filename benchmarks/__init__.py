"""`make bench`: the server beside in-process ONNX Runtime and, on request, its peers."""
