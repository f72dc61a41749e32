"""Inputs of the commands: texts, lines, files, folders and globs, as items."""

import glob
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from vecserve._items import Item, UnusableItem, decode_text, looks_like_utf16, modality_of_suffix
from vecserve.models import ModelInfo

STDIN = "-"
"""The file name that stands for the lines of standard input."""

_STDIN_FD = 0


@dataclass(frozen=True, slots=True)
class Inputs:
    """What to embed, in order."""

    texts: Sequence[str]
    paths: Sequence[Path]
    """Files; the path `-` is standard input."""
    skipped: int
    """Files in folders that the model does not take, by their suffix."""

    @property
    def count(self) -> int | None:
        """How many items there are; None if standard input is among them."""
        if Path(STDIN) in self.paths:
            return None
        return len(self.texts) + len(self.paths)

    def items(self, on_failure: Callable[[str, str], None]) -> Iterator[Item]:
        """Yield the items; calls `on_failure(name, message)` for a line that is no text."""
        for number, text in enumerate(self.texts, 1):
            yield Item(text, id=f"text {number}")
        for path in self.paths:
            if path == Path(STDIN):
                yield from _lines(on_failure)
            else:
                yield Item(path)


def find(
    texts: Sequence[str], files: Sequence[str], model: ModelInfo, *, frames: bool = False
) -> Inputs:
    """Expand folders (sorted, with all below them) and globs (sorted).

    What is named itself is kept, whatever it is. Of a folder only files whose
    suffix says that the model takes them, with `frames` videos too, and none
    that is hidden.
    """
    kinds = {modality.name for modality in model.modalities} | ({"video"} if frames else set())
    paths: list[Path] = []
    skipped = 0
    for name in files:
        path = Path(name)
        if path.is_dir():
            below = list(_below(path))
            fitting = [own for own in below if modality_of_suffix(own) in kinds]
            paths += fitting
            skipped += len(below) - len(fitting)
        elif glob.has_magic(name) and not path.exists():
            # A pattern that matches nothing stays, and is reported as no such file.
            paths += [Path(match) for match in sorted(glob.glob(name, recursive=True))] or [path]
        else:
            paths.append(path)
    return Inputs(texts, paths, skipped)


def text_or_file(given: str) -> str | Path:
    """Return the file that an argument names, else the argument as a text.

    Raises typer.BadParameter for a folder, and for the name of a photo or recording
    that is missing.
    """
    try:
        if Path(given).is_file():
            return Path(given)
    except (OSError, ValueError):  # too long for a name, or NUL in it
        return given
    if given.endswith(os.sep):
        raise typer.BadParameter(f"{given} is a folder: name its files")
    if not any(own.isspace() for own in given) and modality_of_suffix(Path(given)):
        raise typer.BadParameter(f"there is no file {given}")
    return given


def _below(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent, name) for name in sorted(names) if not name.startswith("."))


def _lines(on_failure: Callable[[str, str], None]) -> Iterator[Item]:
    # Not sys.stdin: this runs in a thread that may still wait for a line when
    # the process ends, and the interpreter closes sys.stdin under it, and aborts.
    with open(_STDIN_FD, "rb", closefd=False) as file:
        for number, line in enumerate(file, 1):
            name = f"line {number}"
            try:
                text = decode_text(line) if number == 1 else line.decode()
            except UnusableItem as error:
                on_failure(name, error.message)
                if looks_like_utf16(line):
                    return  # the other lines would be halves of characters
            except UnicodeDecodeError as error:
                on_failure(name, f"not UTF-8 text: {error}")
            else:
                yield Item(text.rstrip("\r\n"), id=name)
