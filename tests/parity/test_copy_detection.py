"""SSCD through the server: an edited copy finds its original, a picture its class.

The graph is a trained one, whose licence lets it be fetched but not passed on: where
`make export` could not fetch it, these tests are skipped.
"""

from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import PIL.Image
import PIL.ImageDraw
import pytest

from tests.support.server_process import ServerProcess
from tests.support.testdata import photos, stamps
from vecserve import Client

MODEL = "sscd-resnet50"
PHOTOS = 15
# Folders of the stamps: 183 pictures, mirror images left out.
CLASSES = (
    "animals/birds",
    "animals/mammals/bovines",
    "food/fruit",
    "food/vegetables",
    "plants/flowers",
    "symbols/chess",
    "town/houses/cartoon",
    "town/roadsigns",
)

Vectors = npt.NDArray[np.float32]
Image = PIL.Image.Image


@pytest.fixture(scope="module")
def bundle(repository: Path) -> Path:
    folder = repository / MODEL / "1"
    if not folder.is_dir():
        pytest.skip(f"no bundle of {MODEL}: `make export` could not fetch its package")
    return folder


@pytest.fixture(scope="module")
def client(bundle: Path, repository_of: Callable[..., Path]) -> Iterator[Client]:
    with ServerProcess(repository_of(MODEL)) as server, Client(server.address) as client:
        yield client


def encoded(image: Image, form: str, **settings: object) -> bytes:
    file = BytesIO()
    image.save(file, form, **settings)
    return file.getvalue()


def quarter(image: Image) -> bytes:
    """A quarter of the picture, squashed to half its height, as a poor JPEG."""
    width, height = image.size
    left, top = width // 4, height // 4
    part = image.crop((left, top, left + width // 2, top + height // 2))
    return encoded(part.resize((width // 2, height // 4)), "JPEG", quality=25)


def rotated(image: Image) -> bytes:
    return encoded(image.rotate(25, PIL.Image.Resampling.BICUBIC, expand=True), "PNG")


def mirrored(image: Image) -> bytes:
    return encoded(image.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT), "PNG")


def screenshot(image: Image) -> bytes:
    """The picture in a window, with a title bar and lines of text around it."""
    screen = PIL.Image.new("RGB", (900, 700), "white")
    draw = PIL.ImageDraw.Draw(screen)
    draw.rectangle((0, 0, 900, 60), fill=(45, 50, 60))
    draw.text((20, 24), "my pictures - 3 of 17", fill="white")
    for line in range(8):
        draw.text((620, 100 + 60 * line), f"Somebody wrote comment {line} here", fill="black")
    screen.paste(image.resize((560, 560)), (30, 100))
    return encoded(screen, "PNG")


EDITS = (quarter, rotated, mirrored, screenshot)


def test_an_edited_copy_finds_its_original(client: Client) -> None:
    files = photos()[:PHOTOS]
    edited = [edit(PIL.Image.open(file).convert("RGB")) for edit in EDITS for file in files]
    vectors = client.embed(MODEL, [*files, *edited])
    assert vectors.shape == (75, 512)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    originals, copies = vectors[:PHOTOS], vectors[PHOTOS:]
    similarities = copies @ originals.T
    own = np.arange(len(copies)) % PHOTOS
    # 60 copies look for their original among 15, and 15 originals for a copy among 60.
    assert (similarities.argmax(axis=1) == own).all()
    assert (own[similarities.argmax(axis=0)] == np.arange(PHOTOS)).all()


def test_a_vector_is_that_of_the_graph_and_the_same_alone(client: Client, bundle: Path) -> None:
    """Squashed to 320 x 320 by Pillow, as torchvision's Resize does it for Meta's `skew_320`."""
    files = photos()[:8]
    together = client.embed(MODEL, files)
    session = onnxruntime.InferenceSession(bundle / "sscd.onnx", providers=["CPUExecutionProvider"])
    for file, vector in zip(files, together, strict=True):
        assert np.array_equal(client.embed(MODEL, [file])[0], vector)
        image = PIL.Image.open(file).convert("RGB")
        squashed = np.asarray(image.resize((320, 320), PIL.Image.Resampling.BILINEAR))
        (expected,) = session.run(None, {"image": squashed[None]})
        assert np.array_equal(vector, expected[0])


@pytest.mark.long
def test_the_nearest_stamp_is_of_the_same_class(client: Client) -> None:
    """0.787 on the raw graph: it finds copies, and only by the way what is alike."""
    root = stamps()
    files = {
        file: name
        for name in CLASSES
        for file in sorted((root / name).glob("*.png"))
        if "_mirror" not in file.name
    }
    assert len(files) == 183
    vectors = client.embed(MODEL, list(files))
    similarities = vectors @ vectors.T
    np.fill_diagonal(similarities, -1)
    labels = list(files.values())
    same = [
        labels[nearest] == label
        for nearest, label in zip(similarities.argmax(1), labels, strict=True)
    ]
    print(f"leave-one-out nearest neighbour: {np.mean(same):.3f}")
    assert round(np.mean(same), 3) == 0.787
