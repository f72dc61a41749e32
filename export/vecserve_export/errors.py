"""Exceptions of an export.

ExportError
├── WeightsUnavailable   no source has the weights; the message lists those tried
├── Unsupported          the checkpoint needs something that is not built
└── ParityFailed         the graph differs from PyTorch or breaks its contract
"""


class ExportError(Exception):
    """An export failed; the message says why and what to do."""


class WeightsUnavailable(ExportError):
    """No source has the weights."""


class Unsupported(ExportError):
    """The checkpoint has a setting that the export would ignore."""


class ParityFailed(ExportError):
    """The converted graph breaks its contract or is too far from PyTorch."""
