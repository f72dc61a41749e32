"""The exported whisper-base against two independent implementations, on real speech."""

from pathlib import Path

import ctranslate2
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import soundfile
from transformers import WhisperFeatureExtractor

from tests.conftest import ROOT
from vecserve_export import samples
from vecserve_export.request import Request
from vecserve_export.weights import obtain

RATE_HZ = 16_000
WINDOW = 30 * RATE_HZ
# Debian's pocketsphinx-testdata: five clips of a LibriVox recording.
LIBRIVOX = Path("/usr/share/pocketsphinx/test/data/librivox")

Floats = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def clips() -> list[Floats]:
    """Clips of speech, and 30 s made of them: the window that has no silence."""
    files = sorted(LIBRIVOX.glob("*.wav"))
    found = [soundfile.read(file, dtype="float32")[0] for file in files] or [*samples.speech()]
    return [*found, np.resize(np.concatenate(found), WINDOW)]


@pytest.fixture(scope="module")
def features(clips: list[Floats]) -> Floats:
    """What transformers makes of the clips, [clips, 80, 3000]."""
    extracted = WhisperFeatureExtractor()(clips, sampling_rate=RATE_HZ, return_tensors="np")
    found: Floats = extracted.input_features
    return found


@pytest.fixture(scope="module")
def graph_outputs(repository: Path, clips: list[Floats]) -> dict[str, Floats]:
    """What the bundle's graph makes of them, its log-mel spectrogram included."""
    model = onnx.load(repository / "whisper-base" / "1" / "audio.onnx")
    shapes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    (first_layer,) = (
        node
        for node in model.graph.node
        if node.op_type == "Conv" and shapes.get(node.input[1], [])[1:] == [80, 3]
    )
    model.graph.output.append(
        onnx.helper.make_tensor_value_info(first_layer.input[0], onnx.TensorProto.FLOAT, None)
    )
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = ["pooled", "last_hidden_state", first_layer.input[0]]
    rows = []
    for clip in clips:
        waveform = np.zeros((1, WINDOW), np.float32)
        waveform[0, : len(clip)] = clip
        rows.append(session.run(names, {"waveform": waveform, "lengths": np.array([len(clip)])}))
    columns = [np.concatenate(column) for column in zip(*rows, strict=True)]
    return dict(zip(["pooled", "last_hidden_state", "log_mel"], columns, strict=True))


def test_log_mel_equals_transformers(graph_outputs: dict[str, Floats], features: Floats) -> None:
    # 1.6e-5 measured; the graph is nearer to a float64 spectrogram than transformers is.
    np.testing.assert_allclose(graph_outputs["log_mel"], features, rtol=0, atol=1e-4)


def test_encoder_equals_ctranslate2(
    graph_outputs: dict[str, Floats], features: Floats, clips: list[Floats], tmp_path: Path
) -> None:
    request = Request(
        "whisper-base", "packages", allow_untrained=False, cache=ROOT / ".cache" / "vecserve"
    )
    folder = obtain(request, tmp_path).folder
    reference = ctranslate2.models.Whisper(str(folder), device="cpu", compute_type="float32")
    for row, clip in enumerate(clips):
        encoded = reference.encode(
            ctranslate2.StorageView.from_array(np.ascontiguousarray(features[row : row + 1]))
        )
        expected = np.array(encoded)[0]
        actual = graph_outputs["last_hidden_state"][row]
        assert actual.shape == expected.shape == (1500, 512)
        assert cosines(actual, expected).min() >= 0.9999
        positions = -(-len(clip) // 320)
        assert cosines(graph_outputs["pooled"][row], expected[:positions].mean(0)) >= 0.9999


def cosines(one: Floats, two: Floats) -> Floats:
    product = (one * two).sum(-1, dtype=np.float64)
    lengths = np.linalg.norm(one, axis=-1) * np.linalg.norm(two, axis=-1)
    return np.asarray(product / lengths)
