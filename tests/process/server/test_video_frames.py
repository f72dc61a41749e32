"""Frames of videos, embedded by models for images: each as its picture, or their mean."""

import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest
from tritonclient.grpc import InferenceServerClient

from tests.contract.oip.requests import CLIP, RESNET, failure, inputs, strings
from tests.support.clips import clip, repeated, rotated
from tests.support.server_process import ServerProcess
from vecserve import Client, Image, Result, Video

SSCD = "sscd-resnet50"
MAX_FRAMES = 256
Floats = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def server(repository: Path, repository_of: Callable[..., Path]) -> Iterator[ServerProcess]:
    names = [name for name in (CLIP, RESNET, SSCD) if (repository / name).is_dir()]
    with ServerProcess(repository_of(*names), "--max-video-s", "60") as process:
        yield process
        log = process.log
    assert "Traceback" not in log


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Client]:
    with Client(server.address) as client:
        yield client


def noise(frame: int, width: int, height: int) -> npt.NDArray[np.uint8]:
    """A frame like no other, of few colours so that it is no mere gray to the models."""
    random = np.random.default_rng(frame)
    blocks = random.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return blocks.repeat(8, axis=0).repeat(8, axis=1)


def pictures_of(video: bytes) -> list[bytes]:
    """Every frame of a video, as a PNG file."""
    files = []
    with av.open(io.BytesIO(video), "r") as container:
        for frame in container.decode(video=0):
            file = io.BytesIO()
            PIL.Image.fromarray(frame.to_ndarray(format="rgb24")).save(file, format="PNG")
            files.append(file.getvalue())
    return files


def each(client: Client, model: str, video: bytes, frames: int) -> list[Floats]:
    return [vector.values for vector in one(client, model, video, frames).vectors]


def one(client: Client, model: str, video: bytes, frames: int | None) -> Result:
    (result,) = client.embed_stream(model, [Video(video)], frames=frames, windows="each")
    return result


def unit(values: Floats) -> Floats:
    normalized: Floats = values / np.linalg.norm(values, axis=-1, keepdims=True)
    return normalized


@pytest.mark.parametrize("model", [RESNET, CLIP])
def test_a_frame_is_embedded_as_its_picture(client: Client, model: str) -> None:
    # Two seconds of 25 frames: the middles of four parts are those of frames 6, 18, 31, 43.
    video = clip(seconds=2, draw=noise, size=(96, 64))
    result = one(client, model, video, 4)
    assert result.error is None
    spans = [vector.span for vector in result.vectors]
    assert [(s.start_s, s.end_s) for s in spans if s] == [
        (0.0, 0.5),
        (0.5, 1.0),
        (1.0, 1.5),
        (1.5, 2.0),
    ]
    pictures = pictures_of(video)
    expected = client.embed(model, [Image(pictures[n]) for n in (6, 18, 31, 43)])
    for vector, picture in zip(result.vectors, expected, strict=True):
        np.testing.assert_allclose(
            vector.values, picture, rtol=0, atol=1e-5 * np.abs(picture).max()
        )
    # The test can fail: the frames before are others.
    before = client.embed(model, [Image(pictures[5])])
    assert np.abs(before - expected[:1]).max() > 1e-3 * np.abs(expected).max()


def test_frames_are_pooled_into_the_mean_of_their_vectors(client: Client) -> None:
    video = clip(seconds=2, draw=noise)
    for model, is_unit in ((RESNET, False), (CLIP, True)):
        mean = np.mean(each(client, model, video, 3), axis=0)
        (pooled,) = client.embed(model, [Video(video)], frames=3)
        expected = unit(mean) if is_unit else mean
        np.testing.assert_allclose(pooled, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    (result,) = client.embed_stream(
        CLIP, [Video(video)], frames=3, dimensions=64, force_dimensions=True
    )
    (vector,) = result.vectors
    assert vector.values.shape == (64,)
    assert np.linalg.norm(vector.values) == pytest.approx(1, abs=1e-5)
    assert vector.span is not None
    assert (vector.span.start_s, vector.span.end_s) == (0.0, 2.0)


def test_a_model_that_gives_unit_vectors_only_pools_them(client: Client) -> None:
    if SSCD not in {model.name for model in client.models()}:
        pytest.skip(f"{SSCD} is not exported")
    video = clip(seconds=2, draw=noise)
    (pooled,) = client.embed(SSCD, [Video(video)], frames=2)
    expected = unit(np.mean(each(client, SSCD, video, 2), axis=0))
    np.testing.assert_allclose(pooled, expected, rtol=0, atol=1e-5)


def test_a_video_of_fewer_frames_gives_them_again(client: Client) -> None:
    video = clip(seconds=0.08, draw=noise, audio=None)
    expected = client.embed(RESNET, [Image(picture) for picture in pictures_of(video)])
    assert len(expected) == 2
    vectors = each(client, RESNET, video, 8)
    np.testing.assert_allclose(vectors, expected.repeat(4, axis=0), rtol=1e-4, atol=1e-4)


def test_frames_are_turned_upright(client: Client) -> None:
    video = clip(seconds=0.04, draw=noise, audio=None)
    turned = PIL.Image.open(io.BytesIO(pictures_of(video)[0])).transpose(
        PIL.Image.Transpose.ROTATE_270
    )
    (vector,) = each(client, RESNET, rotated(video, (0, 1, -1, 0)), 1)
    np.testing.assert_allclose(vector, client.embed(RESNET, [turned])[0], rtol=1e-4, atol=1e-5)


def test_one_stream_mixes_videos_with_images_and_texts(client: Client, images: list[bytes]) -> None:
    video = clip(seconds=0.4, draw=noise)
    rows = client.embed(CLIP, ["a dog", Image(images[0]), Video(video)], frames=2)
    assert np.array_equal(rows[0], client.embed(CLIP, ["a dog"])[0])
    np.testing.assert_allclose(rows[1], client.embed(CLIP, [Image(images[0])])[0], atol=1e-5)
    np.testing.assert_allclose(
        rows[2], client.embed(CLIP, [Video(video)], frames=2)[0], rtol=0, atol=1e-5
    )


def test_what_cannot_be_is_refused(client: Client, images: list[bytes]) -> None:
    video = clip(seconds=0.2)

    def refusal(data: bytes, frames: int | None) -> tuple[str, str]:
        error = one(client, RESNET, data, frames).error
        assert error is not None
        assert error.code == "INVALID_ARGUMENT"
        return error.reason, error.message

    reason, message = refusal(video, None)
    assert reason == "WRONG_MODALITY"
    assert "set `frames`" in message
    assert refusal(video, MAX_FRAMES + 1)[0] == "FRAMES_NOT_OFFERED"
    assert refusal(images[0], 2)[0] == "VIDEO_UNREADABLE"
    assert refusal(video[: len(video) // 2], 2)[0] == "VIDEO_TRUNCATED"
    assert refusal(clip([0.0, 61.0], audio=None), 2)[0] == "VIDEO_TOO_LONG"
    with pytest.raises(ValueError, match="frames must be at least 1"):
        client.embed(RESNET, [Video(video)], frames=0)
    (result,) = client.embed_stream(RESNET, [Image(images[0])], windows="each")
    assert result.error is None, "the server goes on"


def test_as_many_frames_as_may_be_are_answered_in_a_small_queue(
    repository_of: Callable[..., Path],
) -> None:
    ten_s = clip(seconds=10, container="matroska", size=(64, 64), audio=None, draw=noise)
    minutes = repeated(ten_s, 30, 10.1)
    # Room for 6 images; a frame is one.
    with (
        ServerProcess(repository_of(RESNET), "--max-queue-mb", "1") as server,
        Client(server.address) as client,
    ):
        result = one(client, RESNET, minutes, 40)
        assert result.error is None
        assert len(result.vectors) == 40
        assert client.embed(RESNET, [Video(ten_s)] * 3, frames=8).shape == (3, 2048)


def test_the_model_says_how_many(client: Client) -> None:
    kinds = {own.name: own.max_frames for own in client.model(CLIP).modalities}
    assert kinds == {"text": 0, "image": MAX_FRAMES}


def test_without_pyav_none_are_offered(
    repository_of: Callable[..., Path], images: list[bytes]
) -> None:
    with (
        ServerProcess(repository_of(RESNET), module="tests.support.without_pyav") as server,
        Client(server.address) as client,
    ):
        (modality,) = client.model(RESNET).modalities
        assert modality.max_frames == 0
        error = one(client, RESNET, clip(seconds=0.2), 2).error
        assert error is not None
        assert error.reason == "FRAMES_NOT_OFFERED"
        assert "vecserve[video]" in error.message
        assert client.embed(RESNET, [Image(images[0])]).shape == (1, 2048)


def test_the_open_inference_protocol_takes_them_as_a_parameter(
    server: ServerProcess, client: Client
) -> None:
    videos = [clip(seconds=0.4, draw=noise), clip(seconds=1, draw=noise)]
    with InferenceServerClient(server.address) as triton:
        tensors = inputs(video=strings(*videos))
        answer = triton.infer(CLIP, tensors, parameters={"frames": 2}).as_numpy("embedding")
        assert "set `frames`" in failure(triton.infer, CLIP, tensors)[1]
        negative = failure(triton.infer, CLIP, tensors, parameters={"frames": -1})
        assert negative[0] == "INVALID_ARGUMENT"
    typed = client.embed(CLIP, map(Video, videos), frames=2)
    np.testing.assert_allclose(answer, typed, rtol=0, atol=1e-5)


def test_the_command_takes_folders_of_videos_and_images(
    server: ServerProcess, client: Client, images: list[bytes], tmp_path: Path
) -> None:
    (tmp_path / "a.mp4").write_bytes(clip(seconds=1, draw=noise))
    (tmp_path / "b.jpg").write_bytes(images[0])
    vectors = tmp_path / "vectors.npy"
    command = [sys.executable, "-m", "vecserve", "embed", "--server", server.address]
    command += ["--model", RESNET, str(tmp_path), "--output", str(vectors)]
    for flags, expected in ((["--frames", "2"], 2), ([], 1)):
        done = subprocess.run([*command, *flags], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert len(np.load(vectors)) == expected
    with_frames = client.embed(RESNET, [tmp_path / "a.mp4"], frames=2)
    assert with_frames.shape == (1, 2048)
