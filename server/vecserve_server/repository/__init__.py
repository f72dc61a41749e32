"""Bundles on disk: their format, finding them, checking them."""
