"""Wording of messages: what callers sent is quoted in part, and long lists are cut."""

from collections.abc import Collection

# Of a text that a caller sent: enough to know it by.
_QUOTED_CHARACTERS = 80
_LISTED = 20
_LISTED_CHARACTERS = 300


def quoted(value: object) -> str:
    """Return a caller's value as Python writes it; a long text's beginning, and its length."""
    if isinstance(value, str) and len(value) > _QUOTED_CHARACTERS:
        return f"{value[:_QUOTED_CHARACTERS]!r}... ({len(value)} characters)"
    return repr(value)


def listed(names: Collection[str]) -> str:
    """Return names, the first of them if they are many, and how many more there are."""
    shown: list[str] = []
    characters = 0
    for name in names:
        characters += len(name)
        if len(shown) == _LISTED or (shown and characters > _LISTED_CHARACTERS):
            return f"{', '.join(shown)} and {len(names) - len(shown)} more"
        shown.append(name)
    return ", ".join(shown)


def cut(text: str, bytes_: int) -> str:
    """Return a text, or its beginning, in so many bytes of UTF-8."""
    data = text.encode(errors="replace")
    if len(data) <= bytes_:
        return text
    return data[: bytes_ - 3].decode(errors="ignore") + "..."
