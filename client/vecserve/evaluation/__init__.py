"""Evaluation of embeddings on somebody's own data: what they get right, and how sure that is."""
