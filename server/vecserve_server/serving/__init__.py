"""Loaded models and the one way an item takes through them."""
