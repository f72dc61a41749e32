"""Error of a model on disk."""


class BundleError(Exception):
    """A model on disk cannot be served; the message says which, why and what to do."""
