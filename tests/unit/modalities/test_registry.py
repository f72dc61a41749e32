"""build_modality: what prepares a tower's items, or a clear word on why nothing can."""

from pathlib import Path

import pytest

from vecserve_server.modalities.content import Limits
from vecserve_server.modalities.registry import build_modality
from vecserve_server.repository.manifest import ImageInput, TextInput

TEXT = TextInput(tokenizer="tokenizer.json", max_tokens=8, pad_id=0)
IMAGE = ImageInput(resize_shortest_edge=8, resample="bicubic", crop_height=8, crop_width=8)


@pytest.mark.parametrize("content", [None, "", "{}", '{"model": {"type": "Sorcery"}}', "\x00\xff"])
def test_a_broken_tokenizer_is_named(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ValueError, match=r"tokenizer\.json is not a tokenizer .*export the model"):
        build_modality(TEXT, tmp_path, Limits())


def test_a_pixel_limit_over_pillows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"max_image_pixels is 200000000.*178956970"):
        build_modality(IMAGE, tmp_path, Limits(max_image_pixels=200_000_000))
