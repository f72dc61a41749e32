"""Which waiting rows run together, and when."""
