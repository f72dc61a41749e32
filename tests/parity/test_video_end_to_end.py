"""Served Perceiver latents against transformers, from real clips on.

The reference reads a clip as DeepMind's notebook does: all frames, all sound, and of
these the ones whose turn it is. The model has fewer layers than the hub's, so that it is
quick, but all its shapes: 52,097 inputs of 704 channels, 784 latents of 512.
"""

from collections.abc import Iterator
from fractions import Fraction
from math import floor
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
import torch
from transformers import PerceiverConfig, PerceiverForMultimodalAutoencoding

from tests.support.server_process import ServerProcess
from tests.support.testdata import clips
from vecserve import Client
from vecserve_export import catalog
from vecserve_export.export import export
from vecserve_export.request import Request
from vecserve_server.modalities.video import resize_bilinear

MODEL = "multimodal-perceiver"
SMALLER = {"num_self_attends_per_block": 1, "qk_channels": 64, "v_channels": 512}
WINDOWS = 2
WINDOW_S = Fraction(16, 25)
Floats = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    known = catalog.find(MODEL)
    assert known is not None
    folder = tmp_path_factory.mktemp("checkpoints") / MODEL
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = PerceiverForMultimodalAutoencoding(
            PerceiverConfig(**(known.settings or {}) | SMALLER)
        )
        # As random weights are, they attend to all inputs alike; so to some more than others.
        torch.nn.init.normal_(model.perceiver.embeddings.latents)
        for module in model.perceiver.encoder.modules():
            if isinstance(module, torch.nn.Linear):
                torch.nn.init.normal_(module.weight, std=2 / module.in_features**0.5)
        model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def client(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    repository = tmp_path_factory.mktemp("repository")
    request = Request(MODEL, str(checkpoint), allow_untrained=False, cache=repository)
    export(request, repository, 17, lambda _: None)
    with (
        ServerProcess(repository, "--max-video-windows", str(WINDOWS)) as server,
        Client(server.address) as client,
    ):
        yield client


def windows_of(file: Path) -> Iterator[tuple[Floats, Floats]]:
    """Pixels, [16, 224, 224, 3] of 1.0, and sound, [30720], of each window."""
    with av.open(str(file)) as container:
        rate = container.streams.video[0].average_rate
        frames = [
            frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
            for frame in container.decode(video=0)
        ]
    with av.open(str(file)) as container:
        heard = np.concatenate([part.to_ndarray()[0] for part in container.decode(audio=0)])
        assert container.streams.audio[0].rate == 48_000
    assert rate is not None
    last = Fraction(len(frames)) / rate - WINDOW_S
    for start in (Fraction(0), last):
        chosen = [frames[floor((start + Fraction(n, 25)) * rate)] for n in range(16)]
        height, width = chosen[0].shape[:2]
        left = width // 2 - height // 2
        squares = [resize_bilinear(f[:, left : left + height], 224, 224) for f in chosen]
        first = round(start * 48_000)
        sound = np.zeros(30_720, dtype=np.float32)
        part = heard[first : first + 30_720]
        sound[: len(part)] = part
        yield (np.stack(squares) / 255.0).astype(np.float32), sound


def latents_of(model: PerceiverForMultimodalAutoencoding, pixels: Floats, sound: Floats) -> Floats:
    """What the encoder makes of one window, [784, 512]."""
    with torch.inference_mode():
        latents = model.perceiver(
            inputs={
                "image": torch.from_numpy(pixels.transpose(0, 3, 1, 2))[None],
                "audio": torch.from_numpy(sound)[None, :, None],
                "label": torch.zeros(1, 700),
            },
            subsampled_output_points={
                "image": torch.arange(1),
                "audio": torch.arange(1),
                "label": None,
            },
        ).last_hidden_state
    return np.asarray(latents[0].numpy())


@pytest.mark.parametrize(
    "name", ["world.mp4", pytest.param("bigbuckbunny.mp4", marks=pytest.mark.long)]
)
def test_latents_equal_transformers(client: Client, checkpoint: Path, name: str) -> None:
    (file,) = (path for path in clips() if path.name == name)
    model = PerceiverForMultimodalAutoencoding.from_pretrained(checkpoint).eval()
    expected = [latents_of(model, pixels, sound) for pixels, sound in windows_of(file)]
    (served,) = client.embed_stream(MODEL, [file], pooling="none")
    assert served.error is None
    assert len(served.vectors) == WINDOWS
    for vector, latents in zip(served.vectors, expected, strict=True):
        assert vector.values.shape == (784, 512)
        assert np.abs(vector.values - latents).max() <= 1e-4 * np.abs(latents).max()
    # The test can fail: another window's latents are far off.
    assert np.abs(expected[0] - expected[1]).max() > 1e-2 * np.abs(expected[0]).max()
