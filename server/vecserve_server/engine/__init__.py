"""ONNX Runtime: sessions, and rows to batches and back. Knows no queue and no protobuf."""
