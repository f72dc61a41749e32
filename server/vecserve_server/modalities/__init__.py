"""Content in, rows out, vectors back: one file a modality."""
