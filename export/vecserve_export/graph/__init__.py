"""ONNX graphs: traced from PyTorch, optimised, converted to fp16 or int8.

Nothing here knows a model family.
"""
