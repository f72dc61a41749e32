"""Zero-shot classification as docs/images.md shows it, against transformers' CLIP."""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from transformers import CLIPModel, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from tests.export.conftest import write_tiny_clip
from tests.support.server_process import ServerProcess
from vecserve import Client
from vecserve_export.export import export
from vecserve_export.request import Request

MODEL = "tiny-clip"
LABELS = ["a photo of a dog", "a photo of a car", "the cat"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints") / MODEL
    with torch.random.fork_rng():
        torch.manual_seed(3)
        write_tiny_clip(folder)
    return folder


def test_probabilities_equal_transformers(
    checkpoint: Path, tmp_path: Path, images: list[bytes]
) -> None:
    request = Request(MODEL, str(checkpoint), allow_untrained=False, cache=tmp_path)
    export(request, tmp_path / "models", 17, lambda _: None)
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(images[0])
    model = CLIPModel.from_pretrained(checkpoint).eval()
    scale = model.logit_scale.detach().exp().item()
    with ServerProcess(tmp_path / "models") as server, Client(server.address) as client:
        vectors = client.embed(MODEL, [photo, *LABELS])
    logits = scale * vectors[1:] @ vectors[0]
    probabilities = np.exp(logits - logits.max())
    probabilities /= probabilities.sum()

    tokens = CLIPTokenizer.from_pretrained(checkpoint)(LABELS, padding=True, return_tensors="pt")
    pixels = CLIPImageProcessorPil.from_pretrained(checkpoint)(
        PIL.Image.open(photo), return_tensors="pt"
    )
    with torch.inference_mode():
        expected = model(**tokens, **pixels).logits_per_image.softmax(-1)[0].numpy()
    np.testing.assert_allclose(probabilities, expected, rtol=0, atol=1e-5)
    assert np.ptp(expected) > 1e-3, "the labels differ"
