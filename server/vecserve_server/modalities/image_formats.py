"""Image formats that callers can reach: Pillow's, and those of its plugins that are installed."""

from PIL import AvifImagePlugin, features

try:
    import pillow_heif
except ImportError:
    pillow_heif = None

_ALWAYS = {"JPEG": "JPEG", "PNG": "PNG", "WEBP": "WebP", "GIF": "GIF", "BMP": "BMP", "TIFF": "TIFF"}


def _formats() -> dict[str, str]:
    """Return what each is called, by Pillow's name of it."""
    formats = dict(_ALWAYS)
    if features.check("avif"):
        # As all others, one image takes one core.
        AvifImagePlugin.DEFAULT_MAX_THREADS = 1
        formats["AVIF"] = "AVIF"
    if pillow_heif is not None:
        pillow_heif.options.DECODE_THREADS = 1
        pillow_heif.register_heif_opener()
        formats["HEIF"] = "HEIC"
    return formats


_NAMES = _formats()

FORMATS = tuple(_NAMES)
"""Pillow's names of the formats whose decoders callers can reach."""

ACCEPTED = "{} or {}".format(", ".join([*_NAMES.values()][:-1]), [*_NAMES.values()][-1])
"""The same, for people."""
