"""Video files of every kind, from file to vectors: frames and sound by their times, or refused."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from tritonclient.grpc import InferenceServerClient

from tests.contract.oip.requests import inputs, strings
from tests.support.clips import SOUND_AT_S, clip, level, quadrants, repeated, rotated
from tests.support.server_process import ServerProcess, descendants
from tests.support.testdata import clips
from tests.support.video_bundle import DIMENSIONS, FRAMES, NAME, write_bundle
from vecserve import Client, Result, Video

WINDOW_S = 0.64
LIMIT_S = 120
WINDOWS = 3
Floats = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    repository = tmp_path_factory.mktemp("repository")
    write_bundle(repository)
    flags = ("--max-video-s", str(LIMIT_S), "--max-video-windows", str(WINDOWS))
    with ServerProcess(repository, *flags, "--max-image-megapixels", "3") as process:
        yield process
        log = process.log
    assert "Traceback" not in log


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[Client]:
    with Client(server.address) as client:
        yield client


def windows_of(client: Client, video: bytes) -> list[tuple[float, float, Floats]]:
    """Start and end of each window, and what was seen and heard, [frames, DIMENSIONS]."""
    result = one(client, video)
    assert result.error is None
    found = []
    for vector in result.vectors:
        assert vector.span is not None
        assert vector.values.shape == (FRAMES, DIMENSIONS)
        found.append((vector.span.start_s, vector.span.end_s, vector.values))
    return found


def one(client: Client, video: bytes) -> Result:
    """The answer to a video."""
    (result,) = client.embed_stream(NAME, [Video(video)], pooling="none")
    return result


def reason_of(client: Client, video: bytes) -> str:
    """Why a video is refused."""
    result = one(client, video)
    assert result.error is not None
    assert result.error.code == "INVALID_ARGUMENT"
    return result.error.reason


def expected_levels(start_s: float, frames_per_s: float) -> list[int]:
    """Gray levels of what is shown in a window; a hair later than its frames' own times."""
    return [level(int((start_s + n / 25) * frames_per_s + 1e-6)) for n in range(FRAMES)]


@pytest.mark.parametrize("frames_per_s", [10, 25, 30, 60])
def test_frames_are_those_shown_25_times_a_second(client: Client, frames_per_s: int) -> None:
    ((start_s, end_s, seen),) = windows_of(
        client, clip(seconds=0.6, frames_per_s=frames_per_s, key_every=7)
    )
    assert start_s == 0.0
    assert end_s == pytest.approx(0.6, abs=1e-3)
    # After the end, the last frame stays.
    last = level(round(0.6 * frames_per_s) - 1)
    expected = [min(last, shown) for shown in expected_levels(0.0, frames_per_s)]
    assert np.abs(seen[:, :4] - np.array(expected)[:, None]).max() <= 1


def test_sound_is_that_of_its_time(client: Client) -> None:
    ((_, _, heard),) = windows_of(client, clip(seconds=0.64))
    loud = heard[:, 4] > 0.01
    first = round(SOUND_AT_S * 25)
    # AAC spreads the start of a sound over a frame of its own, before and after.
    assert not loud[: first - 1].any()
    assert loud[first + 1 :].all()
    assert heard[first + 1 :, 4] == pytest.approx(0.125, abs=0.02), "the left channel alone"


def test_a_long_video_has_windows_from_start_to_end(client: Client) -> None:
    found = windows_of(client, clip(seconds=4.64, frames_per_s=25))
    assert [round(start_s, 3) for start_s, _, _ in found] == [0.0, 2.0, 4.0]
    assert [round(end_s, 3) for _, end_s, _ in found] == [0.64, 2.64, 4.64]
    for start_s, _, seen in found:
        assert np.abs(seen[:, 0] - expected_levels(start_s, 25)).max() <= 1


def test_windows_are_pooled_into_their_mean(client: Client) -> None:
    video = Video(clip(seconds=1.28))
    (pooled,) = client.embed(NAME, [video])
    (each,) = client.embed(NAME, [video], windows="each")
    assert len(each) == 2
    assert np.allclose(pooled, np.mean(each, axis=0), rtol=1e-5)


def test_a_video_of_varying_frame_rate_is_read_by_its_times(client: Client) -> None:
    times_s = [0.0, 0.04, 0.05, 0.2, 0.21, 0.5, 0.6]
    ((_, _, seen),) = windows_of(client, clip(times_s, seconds=0.64, container="matroska"))
    shown = [max(n for n, at in enumerate(times_s) if at <= k / 25 + 1e-9) for k in range(FRAMES)]
    assert np.abs(seen[:, 0] - [level(n) for n in shown]).max() <= 1


def test_times_that_do_not_start_at_zero_are_no_gap(client: Client) -> None:
    times_s = [5 + n / 25 for n in range(16)]
    video = clip(times_s, seconds=0.64, container="matroska", audio=None)
    ((start_s, _, seen),) = windows_of(client, video)
    assert start_s == 0.0
    assert np.abs(seen[:, 0] - expected_levels(0.0, 25)).max() <= 1


@pytest.mark.parametrize(
    ("container", "video", "audio"),
    [
        ("mp4", "libx264", "aac"),
        ("mov", "libx264", None),
        ("mp4", "libx265", "aac"),
        ("matroska", "libx264", "vorbis"),
        ("webm", "libvpx-vp9", "libopus"),
        ("webm", "libvpx", "vorbis"),
        ("webm", "libvpx-vp9", None),
        ("mp4", "libsvtav1", None),
    ],
)
def test_containers_and_codecs(
    client: Client, container: str, video: str, audio: str | None
) -> None:
    found = windows_of(client, clip(seconds=1.28, container=container, video=video, audio=audio))
    assert len(found) == 2
    for start_s, _, seen in found:
        # VP8 and AV1 are not lossless.
        assert np.abs(seen[:, 0] - expected_levels(start_s, 25)).max() <= 3
    heard = found[1][2][:, 4]
    assert heard[2:-2].min() > 0.1 if audio else heard.max() == 0.0


@pytest.mark.parametrize(("width", "height"), [(65, 33), (33, 65), (1, 1), (322, 182)])
def test_odd_sizes(client: Client, width: int, height: int) -> None:
    video = clip(seconds=0.64, size=(width, height), container="matroska", audio=None)
    ((_, _, seen),) = windows_of(client, video)
    assert np.abs(seen[:, :4] - np.array(expected_levels(0.0, 25))[:, None]).max() <= 1


@pytest.mark.parametrize(
    ("matrix", "corners"),
    [
        ((1, 0, 0, 1), [40, 90, 140, 190]),
        ((0, 1, -1, 0), [140, 40, 190, 90]),  # a quarter clockwise, as a telephone held upright
        ((-1, 0, 0, -1), [190, 140, 90, 40]),
        ((0, -1, 1, 0), [90, 190, 40, 140]),
        ((-1, 0, 0, 1), [90, 40, 190, 140]),  # mirrored, as a front camera
    ],
)
def test_a_video_is_turned_upright(client: Client, matrix: list[int], corners: list[int]) -> None:
    video = rotated(clip(seconds=0.64, audio=None, draw=quadrants), matrix)
    ((_, _, seen),) = windows_of(client, video)
    assert np.abs(seen[:, :4] - corners).max() <= 2


def test_a_skewed_video_is_refused(client: Client) -> None:
    assert reason_of(client, rotated(clip(seconds=0.2), (1, 1, -1, 1))) == "VIDEO_UNSUPPORTED"


def test_files_without_pictures_are_refused(client: Client) -> None:
    assert reason_of(client, b"") == "VIDEO_EMPTY"
    assert reason_of(client, clip(seconds=0.5, video=None)) == "VIDEO_EMPTY"
    assert reason_of(client, clip([], seconds=0.5)) == "VIDEO_EMPTY"


@pytest.mark.parametrize("container", ["mp4", "webm"])
def test_a_file_that_is_cut_off_is_refused(client: Client, container: str) -> None:
    video, audio = ("libx264", "aac") if container == "mp4" else ("libvpx-vp9", "libopus")
    whole = clip(container=container, video=video, audio=audio)
    for share in (0.3, 0.6, 0.99):
        assert reason_of(client, whole[: int(len(whole) * share)]) == "VIDEO_TRUNCATED"


def test_a_file_that_is_cut_off_after_its_index_is_refused(client: Client) -> None:
    whole = clip(options={"movflags": "faststart"})
    assert whole.index(b"moov") < whole.index(b"mdat")
    assert reason_of(client, whole[: len(whole) // 2]) == "VIDEO_TRUNCATED"


def test_damage_is_refused_or_does_not_matter(client: Client) -> None:
    whole = clip(seconds=0.64, size=(128, 128), draw=_noise)
    intact = windows_of(client, whole)[0][2]
    media = whole.index(b"mdat") + 4
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(10):
        damaged = bytearray(whole)
        for at in random.integers(media, media + len(whole) // 2, 200):
            damaged[at] ^= 0xFF
        result = one(client, bytes(damaged))
        if result.error:
            assert result.error.reason in ("VIDEO_UNREADABLE", "VIDEO_TRUNCATED")
            refused += 1
    assert refused
    assert np.array_equal(windows_of(client, whole)[0][2], intact), "the server goes on"


def test_garbage_in_the_header_is_refused(client: Client) -> None:
    whole = clip(seconds=0.64)
    header = whole.index(b"moov")
    random = np.random.default_rng(0)
    for _ in range(20):
        damaged = bytearray(whole)
        for at in random.integers(header, len(whole), 20):
            damaged[at] = random.integers(0, 256)
        result = one(client, bytes(damaged))
        assert result.error is None or result.error.reason.startswith("VIDEO_")


def test_what_is_no_video_is_refused(client: Client, images: list[bytes]) -> None:
    assert reason_of(client, images[0]) == "VIDEO_UNREADABLE"
    assert reason_of(client, b"\x1a\x45\xdf\xa3" + bytes(100)) == "VIDEO_UNREADABLE"
    assert reason_of(client, b"\0\0\0\x18ftypavif" + bytes(100)) == "VIDEO_UNREADABLE"


def test_limits(client: Client) -> None:
    assert reason_of(client, clip([0.0, LIMIT_S], audio=None)) == "VIDEO_TOO_LONG"
    ten_hours = clip([0.0, 36_000.0], audio=None, container="matroska")
    assert reason_of(client, ten_hours) == "VIDEO_TOO_LONG"
    assert reason_of(client, clip([0.0], size=(2000, 1600), audio=None)) == "VIDEO_TOO_LARGE"


def test_tables_of_millions_of_frames_in_a_small_file_are_refused(client: Client) -> None:
    whole = bytearray(clip(seconds=0.64, audio=None))
    sizes = whole.index(b"stsz") + 8
    whole[sizes : sizes + 8] = (1).to_bytes(4) + (80_000_000).to_bytes(4)
    assert reason_of(client, bytes(whole)) == "VIDEO_TOO_LARGE"


def test_a_ten_hour_header_on_a_short_video_is_not_believed(client: Client) -> None:
    whole = bytearray(clip(seconds=0.64, audio=None))
    for box, offset in ((b"mvhd", 16), (b"mdhd", 16)):
        at = whole.index(box) + 4 + offset
        whole[at : at + 4] = (0x7FFFFFFF).to_bytes(4)
    result = one(client, bytes(whole))
    assert result.error is None
    assert result.vectors[-1].span is not None
    assert result.vectors[-1].span.end_s < 1


def test_real_clips(client: Client) -> None:
    videos = clips()
    lengths = []
    for result in client.embed_stream(NAME, list(videos), windows="each", ordered=True):
        assert result.error is None
        assert len(result.vectors) == WINDOWS
        assert result.vectors[-1].span is not None
        lengths.append(round(result.vectors[-1].span.end_s, 1))
    assert lengths == [30.0, 7.0, 5.0, 5.3]


def test_half_an_hour_takes_no_more_memory_than_a_minute(tmp_path: Path) -> None:
    write_bundle(tmp_path)
    ten_s = clip(seconds=10, container="matroska", key_every=50)
    # A tenth of a second between two of them: sound ends a little late.
    minute, half_an_hour = (repeated(ten_s, times, 10.1) for times in (6, 178))
    with ServerProcess(tmp_path) as server, Client(server.address) as client:

        def peak_mb() -> float:
            """Of the server and of what decodes for it."""
            peaks = (
                Path(f"/proc/{one}/status").read_text().split("VmHWM:")[1].split()[0]
                for one in (server.process.pid, *descendants(server.process.pid))
            )
            return sum(map(int, peaks)) / 1000

        assert len(windows_of(client, minute)) == 10
        before = peak_mb()
        found = windows_of(client, half_an_hour)
        more = peak_mb() - before
    assert [round(start_s) for start_s, _, _ in found][::3] == [0, 599, 1198, 1797]
    # The message itself is held a few times, of 33 MB. Its frames would be 553 MB, its
    # sound 345.
    assert more < 220


def test_the_model_says_what_it_takes(client: Client) -> None:
    (modality,) = client.model(NAME).modalities
    assert modality.name == "video"
    assert modality.window_seconds == pytest.approx(WINDOW_S)
    assert modality.max_seconds == LIMIT_S
    assert modality.max_windows == WINDOWS


def test_bytes_tensors_named_video(server: ServerProcess) -> None:
    videos = [clip(seconds=0.64), clip(seconds=3)]
    with InferenceServerClient(server.address) as client:
        answer = client.infer(NAME, inputs(video=strings(*videos)))
        assert answer.as_numpy("embedding").shape == (2, DIMENSIONS)
    with Client(server.address) as typed:
        assert np.array_equal(answer.as_numpy("embedding"), typed.embed(NAME, map(Video, videos)))


def test_the_command_reads_video_files(server: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "a.webm").write_bytes(clip(container="webm", video="libvpx-vp9", audio=None))
    (tmp_path / "b.mov").write_bytes(clip(container="mov"))
    vectors = tmp_path / "vectors.npy"
    command = [sys.executable, "-m", "vecserve", "embed", "--model", NAME, str(tmp_path)]
    command += ["--output", str(vectors), "--server", server.address]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert np.load(vectors).shape == (2, DIMENSIONS)


def test_without_pyav_a_video_model_is_refused_by_naming_the_extra(tmp_path: Path) -> None:
    write_bundle(tmp_path / "models")
    (tmp_path / "av.py").write_text("raise ImportError('No module named av')")
    command = [sys.executable, "-m", "vecserve_server", "--repository", str(tmp_path / "models")]
    done = subprocess.run(
        [*command, "--port", "0", "--metrics-port", "0"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "pip install 'vecserve[video]'" in done.stderr
    assert "Traceback" not in done.stderr


def _noise(frame: int, width: int, height: int) -> npt.NDArray[np.uint8]:
    random = np.random.default_rng(frame)
    return random.integers(0, 256, (height, width, 3), dtype=np.uint8)
