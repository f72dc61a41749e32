"""Everything that can go wrong with an export, in one tree.

ExportError
├── WeightsUnavailable   no source has the weights: see what was tried
├── Unsupported          this checkpoint needs something we do not build
└── ParityFailed         the graph does not compute what PyTorch does
"""


class ExportError(Exception):
    """An export cannot be done; the message says why and what to do."""


class WeightsUnavailable(ExportError):
    """No source could give the weights."""


class Unsupported(ExportError):
    """The checkpoint has a setting that would be ignored if we went on."""


class ParityFailed(ExportError):
    """The converted graph breaks its contract or is too far from PyTorch."""
