"""Pointers of Git LFS: what a clone has in the place of large files that were not fetched.

https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
"""

from pathlib import Path

from vecserve_server.repository.errors import BundleError

_START = b"version https://git-lfs.github.com/spec/"


def refuse_pointer(path: Path) -> None:
    """Raise BundleError if a file only points to the one that is meant."""
    with path.open("rb") as file:
        if file.read(len(_START)) == _START:
            raise BundleError(
                f"{path} is a pointer of Git LFS, not the file itself: run `git lfs pull` there"
            )
