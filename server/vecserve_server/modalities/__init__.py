"""Modalities: content to rows and outputs to vectors, one file a kind of content."""
