"""build_pipeline: a tower's pipeline, or a clear word on why there is none."""

from pathlib import Path

import pytest

from vecserve_server.errors import InvalidItem
from vecserve_server.modalities.build import build_pipeline
from vecserve_server.modalities.content import EncodedAudio, EncodedImage, Limits, Text
from vecserve_server.repository.manifest import (
    AudioInput,
    ImageInput,
    Output,
    Pooling,
    TextInput,
    Tower,
)

TEXT = TextInput(tokenizer="tokenizer.json", max_tokens=8, pad_id=0)
IMAGE = ImageInput(resize_shortest_edge=8, resample="bicubic", crop_height=8, crop_width=8)
AUDIO = AudioInput(sample_rate_hz=16_000, window_samples=480_000, samples_per_position=320)


def tower(spec: TextInput | ImageInput | AudioInput) -> Tower:
    return Tower(
        graph="graph.onnx",
        input=spec,
        outputs=(Output(name="vector", pooling=Pooling.MEAN, normalized=False),),
        max_batch_rows=1,
        max_batch_positions=1,
    )


@pytest.mark.parametrize(
    ("spec", "content"),
    [(IMAGE, Text("a")), (IMAGE, EncodedAudio(b"")), (AUDIO, EncodedImage(b""))],
)
def test_every_pipeline_refuses_what_it_does_not_take(
    tmp_path: Path, spec: ImageInput | AudioInput, content: Text | EncodedAudio | EncodedImage
) -> None:
    pipeline = build_pipeline(tower(spec), tmp_path, Limits())
    with pytest.raises(InvalidItem, match="this takes") as raised:
        pipeline.prepare(content, refuse_truncation=False)
    assert raised.value.reason == "WRONG_MODALITY"


@pytest.mark.parametrize("content", [None, "", "{}", '{"model": {"type": "Sorcery"}}', "\x00\xff"])
def test_a_broken_tokenizer_is_named(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ValueError, match=r"tokenizer\.json is not a tokenizer .*export the model"):
        build_pipeline(tower(TEXT), tmp_path, Limits())


def test_a_pixel_limit_over_pillows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"max_image_pixels is 200000000.*178956970"):
        build_pipeline(tower(IMAGE), tmp_path, Limits(max_image_pixels=200_000_000))
