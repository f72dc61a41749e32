"""Whisper speech encoders: one vector for each 20 ms of speech."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import AttentionInterface, WhisperConfig, WhisperFeatureExtractor, WhisperModel
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from vecserve_export import samples
from vecserve_export.checkpoint import Checkpoint
from vecserve_export.errors import Unsupported
from vecserve_export.families import pretrained
from vecserve_export.families.ctranslate2_format import MODEL_FILE, whisper_encoder_state
from vecserve_export.families.melspectrogram import LogMelSpectrogram
from vecserve_export.plan import Case, Feeds, Plan, TowerPlan
from vecserve_server.repository.manifest import AudioInput, Output, Pooling, Tower

# A row is 30 s of sound and costs a CPU about a second.
_MAX_BATCH_ROWS = 2

# Every Whisper model has heads of 64 and hops of 10 ms, two to a position.
_HEAD_DIMENSIONS = 64
_HOPS_PER_POSITION = 2


def _attend_head_by_head(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    scaling: float,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Attend without a mask, each head after the other.

    Takes and returns what transformers asks of an attention function: [batch,
    heads, positions, head] thrice, [batch, positions, heads, head]. It traces
    to plain MatMul and Softmax, which every provider has. All heads at once
    would hold 1500 x 1500 weights for each: 144 MB a row for whisper-base,
    where this holds 18 and is 5 to 10 % faster (ONNX Runtime 1.31, 1 and 2 threads).
    """
    heads = []
    for head in range(query.shape[1]):
        scores = (query[:, head] * scaling) @ key[:, head].transpose(1, 2)
        heads.append(torch.softmax(scores, dim=-1) @ value[:, head])
    return torch.stack(heads, dim=2), None


_HEAD_BY_HEAD = "head_by_head"
AttentionInterface.register(_HEAD_BY_HEAD, _attend_head_by_head)


class SpeechEncoder(torch.nn.Module):
    """Waveform to the encoder's sequence, and its mean over the positions that hold sound."""

    def __init__(self, encoder: WhisperEncoder, extractor: WhisperFeatureExtractor) -> None:
        super().__init__()
        self.spectrogram = LogMelSpectrogram(extractor)
        self.encoder = encoder
        self.samples_per_position = _samples_per_position(extractor)
        self.positions = encoder.config.max_source_positions

    def forward(
        self, waveform: torch.Tensor, lengths: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Take float32 [batch, samples] and int64 [batch].

        Return [batch, dimensions] and [batch, positions, dimensions].
        """
        sequence = self.encoder(self.spectrogram(waveform)).last_hidden_state
        starts = torch.arange(self.positions, device=lengths.device) * self.samples_per_position
        weights = (starts[None, :] < lengths[:, None]).float()
        total = torch.matmul(weights.unsqueeze(1), sequence).squeeze(1)
        return total / weights.sum(1, keepdim=True), sequence


def plan(checkpoint: Checkpoint) -> Plan:
    """Plan the bundle of a Whisper checkpoint, of transformers or CTranslate2.

    Raises Unsupported.
    """
    encoder = _load_encoder(checkpoint).eval()
    extractor = _extractor(checkpoint, encoder.config.num_mel_bins)
    window, rate = extractor.n_samples, extractor.sampling_rate
    cases = tuple(
        Case(_name(feeds, rate), feeds, _reference(encoder, extractor, feeds))
        for feeds in (
            _feeds(samples.speech(), window),
            _feeds([np.tile(np.concatenate(samples.speech()), 5)[:window]], window),
        )
    )
    encoder.set_attn_implementation(_HEAD_BY_HEAD)
    return Plan(
        description=f"Speech encoder, Whisper of {encoder.config.encoder_layers} layers",
        dimensions=encoder.config.d_model,
        towers=(
            TowerPlan(
                tower=Tower(
                    graph="audio.onnx",
                    input=AudioInput(
                        sample_rate_hz=rate,
                        window_samples=window,
                        samples_per_position=_samples_per_position(extractor),
                    ),
                    outputs=(
                        Output(name="pooled", pooling=Pooling.MEAN, normalized=False),
                        Output(name="last_hidden_state", pooling=Pooling.NONE, normalized=False),
                    ),
                    max_batch_rows=_MAX_BATCH_ROWS,
                    max_batch_positions=_MAX_BATCH_ROWS,
                ),
                module=SpeechEncoder(encoder, extractor),
                axes={
                    name: {0: "batch"}
                    for name in ("waveform", "lengths", "pooled", "last_hidden_state")
                },
                cases=cases,
                # The spectrogram's floor, 1e-10, is far under fp16's smallest number: a position
                # of whisper-base would have a cosine of 0.1 to what it should be.
                fp32_modules=("spectrogram",),
            ),
        ),
    )


def write_untrained(config: dict[str, Any], folder: Path) -> None:
    """Write a checkpoint with random weights; the decoder, which is not exported, is tiny."""
    WhisperModel(WhisperConfig(**config, decoder_layers=1)).save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=config["num_mel_bins"]).save_pretrained(folder)


def _load_encoder(checkpoint: Checkpoint) -> WhisperEncoder:
    model_bin = checkpoint.folder / MODEL_FILE
    if not model_bin.is_file():
        return pretrained.load(WhisperModel, checkpoint).encoder
    state = whisper_encoder_state(model_bin)
    dimensions, mels, _ = state["conv1.weight"].shape
    encoder = WhisperEncoder(
        WhisperConfig(
            d_model=dimensions,
            num_mel_bins=mels,
            max_source_positions=len(state["embed_positions.weight"]),
            encoder_layers=sum(name.endswith("fc1.bias") for name in state),
            encoder_attention_heads=dimensions // _HEAD_DIMENSIONS,
            encoder_ffn_dim=len(state["layers.0.fc1.bias"]),
        )
    )
    encoder.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    return encoder


def _extractor(checkpoint: Checkpoint, mels: int) -> WhisperFeatureExtractor:
    if not checkpoint.json("preprocessor_config.json"):
        return WhisperFeatureExtractor(feature_size=mels)
    extractor = WhisperFeatureExtractor.from_pretrained(checkpoint.folder, local_files_only=True)
    if extractor.dither or extractor.feature_size != mels:
        raise Unsupported(
            f"preprocessor_config.json: dither {extractor.dither} is not 0, "
            f"or feature_size {extractor.feature_size} not {mels}"
        )
    return extractor


def _samples_per_position(extractor: WhisperFeatureExtractor) -> int:
    return int(extractor.hop_length) * _HOPS_PER_POSITION


def _feeds(clips: Any, window: int) -> Feeds:
    waveform = np.zeros((len(clips), window), dtype=np.float32)
    for row, clip in zip(waveform, clips, strict=True):
        row[: len(clip)] = clip
    return {"waveform": waveform, "lengths": np.array([len(clip) for clip in clips])}


def _name(feeds: Feeds, rate: int) -> str:
    seconds = [f"{length / rate:.1f} s" for length in feeds["lengths"].tolist()]
    return f"{len(seconds)} windows ({', '.join(seconds)})"


def _reference(
    encoder: WhisperEncoder, extractor: WhisperFeatureExtractor, feeds: Feeds
) -> tuple[npt.NDArray[np.float32], ...]:
    """Return what transformers' extractor and encoder give, pooled in numpy."""
    lengths = feeds["lengths"].tolist()
    clips = [row[:length] for row, length in zip(feeds["waveform"], lengths, strict=True)]
    features = extractor(clips, sampling_rate=extractor.sampling_rate, return_tensors="pt")
    with torch.inference_mode():
        sequence = encoder(features.input_features).last_hidden_state.numpy()
    positions = [-(-length // _samples_per_position(extractor)) for length in lengths]
    pooled = np.stack([row[:n].mean(0) for row, n in zip(sequence, positions, strict=True)])
    return pooled, sequence
