"""Check for packages that optional extras install."""

from importlib.util import find_spec


class MissingExtra(Exception):
    """A package of an extra is not installed; the message says which extra to install."""


def require_extra(package: str, extra: str, purpose: str) -> None:
    """Raise MissingExtra if `package`, which `extra` installs and `purpose` needs, is missing."""
    try:
        found = find_spec(package) is not None
    except ModuleNotFoundError:  # an import hook may refuse it
        found = False
    if not found:
        raise MissingExtra(f"{purpose} needs {package}: pip install 'vecserve[{extra}]'")
