"""Whisper encoders read from files that CTranslate2 writes."""

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from ctranslate2.converters.transformers import WhisperLoader

from tests.export.conftest import Command, tiny_whisper
from tests.export.test_families import manifest_of, run_graph
from vecserve_export import samples
from vecserve_export.errors import Unsupported
from vecserve_export.families.ctranslate2_format import whisper_encoder_state


def write_ctranslate2(folder: Path, quantization: str | None) -> torch.nn.Module:
    """Write model.bin with CTranslate2 and return the encoder it was made from."""
    with torch.random.fork_rng():
        torch.manual_seed(11)
        model = tiny_whisper().eval()
        for parameter in model.parameters():
            # Biases and norms too: fresh ones are 0 and 1, and would hide a mix-up.
            torch.nn.init.normal_(parameter, std=0.2)
    spec = WhisperLoader().get_model_spec(model)
    spec.register_vocabulary([f"token{n}" for n in range(300)])
    spec.validate()
    spec.optimize(quantization=quantization)
    spec.save(str(folder))
    encoder: torch.nn.Module = model.model.encoder
    return encoder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a checkpoint is written."""
    path = tmp_path / "tiny-ct2"
    path.mkdir()
    return path


def test_every_weight_of_the_encoder_is_read(folder: Path) -> None:
    expected = write_ctranslate2(folder, None).state_dict()
    state = whisper_encoder_state(folder / "model.bin")
    assert set(state) == set(expected)
    for name, value in state.items():
        np.testing.assert_array_equal(value, expected[name].numpy(), err_msg=name)


def test_bundle_equals_the_model_it_came_from(
    folder: Path, command: Command, repository: Path
) -> None:
    model = write_ctranslate2(folder, "float16").half().float()
    result = command(folder)
    assert result.exit_code == 0, result.output
    bundle = repository / "tiny-ct2" / "1"
    assert manifest_of(bundle).dimensions == 64
    waveform = np.zeros((1, 480_000), np.float32)
    clip = samples.speech()[0]
    waveform[0, : len(clip)] = clip
    outputs = run_graph(
        bundle / "audio.onnx", {"waveform": waveform, "lengths": np.array([len(clip)])}
    )
    from transformers import WhisperFeatureExtractor

    features = WhisperFeatureExtractor()(clip, sampling_rate=16_000, return_tensors="pt")
    with torch.inference_mode():
        expected = model(features.input_features).last_hidden_state.numpy()
    scale = np.abs(expected).max()
    np.testing.assert_allclose(outputs["last_hidden_state"], expected, atol=1e-4 * scale)


def test_quantized_weights_are_refused(folder: Path) -> None:
    write_ctranslate2(folder, "int8")
    with pytest.raises(Unsupported, match="is quantized"):
        whisper_encoder_state(folder / "model.bin")


@pytest.mark.parametrize("keep", [0, 3, 20, 1000])
def test_truncated_file_is_refused(keep: int, folder: Path) -> None:
    write_ctranslate2(folder, None)
    path = folder / "model.bin"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(Unsupported, match="cut short"):
        whisper_encoder_state(path)


def test_other_versions_and_models_are_refused(folder: Path) -> None:
    path = folder / "model.bin"
    path.write_bytes(struct.pack("<I", 5) + bytes(100))
    with pytest.raises(Unsupported, match="version 5 is not 6"):
        whisper_encoder_state(path)
    name = b"TransformerSpec\0"
    path.write_bytes(struct.pack("<IH", 6, len(name)) + name + bytes(100))
    with pytest.raises(Unsupported, match="TransformerSpec is not WhisperSpec"):
        whisper_encoder_state(path)
