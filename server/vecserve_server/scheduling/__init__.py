"""Scheduling: which waiting rows run together, and when."""
