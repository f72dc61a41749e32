"""Perceiver IO video encoder: frames and sound to a fixed number of latent vectors."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import PerceiverConfig, PerceiverForMultimodalAutoencoding

from vecserve_export import samples
from vecserve_export.checkpoint import Checkpoint
from vecserve_export.errors import Unsupported
from vecserve_export.families import pretrained
from vecserve_export.plan import Case, Feeds, Plan, TowerPlan
from vecserve_server.repository.manifest import Output, Pooling, Tower, VideoInput

# A row costs a CPU more than a second and 1.5 GB: a second one only makes the first wait.
_MAX_BATCH_ROWS = 1

# What the reference takes 16 frames of 1,920 samples to be: 48000 // 25, in DeepMind's
# perceiver/colabs/video_autoencoding.ipynb, whose preparation of a video this is.
_FRAME_RATE_HZ = 25
_SAMPLE_RATE_HZ = 48_000
# The reference's frames are this wide and high, whatever image_size says: that is
# of the patches, of 4 x 4 pixels.
_FRAME_PIXELS = 224
_PATCH_PIXELS = 4
_CHANNELS = 3

# Latents that attend to the inputs at a time.
_LATENTS_AT_A_TIME = 98

# Pixels by which the camera moves from frame to frame in the clips that graphs are verified on.
_PAN_PIXELS = 2


class _AttentionByParts(torch.nn.Module):
    """Cross-attention of some latents after the others, in the place of PerceiverSelfAttention.

    All at once would hold 784 x 52,097 weights, 163 MB, several times over; a latent's
    weights do not depend on the other latents.
    """

    def __init__(self, attention: torch.nn.Module) -> None:
        super().__init__()
        self.attention: Any = attention

    def forward(
        self, hidden_states: torch.Tensor, _: None, inputs: torch.Tensor, *__: object
    ) -> tuple[torch.Tensor]:
        """Take [batch, latents, dimensions], [batch, inputs, channels]; return the former."""
        attention = self.attention
        inputs = attention.layernorm2(inputs)
        queries, keys, values = (
            attention.transpose_for_scores(rows, channels)
            for rows, channels in (
                (
                    attention.query(attention.layernorm1(hidden_states)),
                    attention.qk_channels_per_head,
                ),
                (attention.key(inputs), attention.qk_channels_per_head),
                (attention.value(inputs), attention.v_channels_per_head),
            )
        )
        queries = queries / attention.qk_channels_per_head**0.5
        parts = [
            torch.softmax(part @ keys.transpose(-1, -2), dim=-1) @ values
            for part in (
                queries[:, :, at : at + _LATENTS_AT_A_TIME]
                for at in range(0, int(queries.shape[2]), _LATENTS_AT_A_TIME)
            )
        ]
        return (torch.cat(parts, dim=2).transpose(1, 2).flatten(2),)


class VideoEncoder(torch.nn.Module):
    """Frames and sound to the encoder's latents, and their mean."""

    def __init__(self, model: PerceiverForMultimodalAutoencoding, spec: VideoInput) -> None:
        super().__init__()
        self.perceiver = model.perceiver
        parts = model.perceiver.input_preprocessor.modalities
        self.channels = {
            "image": _CHANNELS * _PATCH_PIXELS**2,
            "audio": parts["audio"].samples_per_patch,
        }
        # As PyTorch computes them, once: a sine of up to 48,000 has no four digits that
        # another runtime, with other last bits in its argument, would agree to.
        frames = torch.zeros(1, spec.frames, spec.height, spec.width, _CHANNELS)
        clip = _inputs(frames, torch.zeros(1, spec.audio_samples))
        for (name, channels), silence in zip(self.channels.items(), clip, strict=True):
            self.register_buffer(f"{name}_positions", parts[name](silence)[0][:, :, channels:])

    def forward(
        self, frames: torch.Tensor, audio: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Take uint8 [batch, frames, H, W, 3] and float32 [batch, samples].

        Return [batch, dimensions] and [batch, latents, dimensions].
        """
        images, sound = _inputs(frames, audio)
        batch = images.shape[0]
        rows = {
            "image": self._rows("image", images),
            "audio": self._rows("audio", sound),
            # Masked with probability 1: the label never reaches the encoder.
            "label": self.perceiver.input_preprocessor.mask["label"].expand(batch, 1, -1),
        }
        inputs = torch.cat([rows[name] for name in sorted(rows)], dim=1)
        latents = self.perceiver.encoder(
            self.perceiver.embeddings(batch_size=batch), inputs=inputs
        ).last_hidden_state
        return latents.mean(1), latents

    def _rows(self, name: str, values: torch.Tensor) -> torch.Tensor:
        """Return patches, their positions, and the trained padding to the width of all.

        PerceiverMultimodalPreprocessor.forward but for its masks, which it draws by
        torch.bernoulli with probability 0 or 1: a traced Bernoulli node draws otherwise.
        """
        parts = self.perceiver.input_preprocessor
        patches = parts.modalities[name](values)[0][:, :, : self.channels[name]]
        batch, rows, _ = patches.shape
        positions = getattr(self, f"{name}_positions").expand(batch, -1, -1)
        return torch.cat([patches, positions, parts.padding[name].expand(batch, rows, -1)], dim=2)


def plan(checkpoint: Checkpoint) -> Plan:
    """Plan the bundle of a multimodal Perceiver checkpoint. Raises Unsupported."""
    _check(checkpoint)
    model = pretrained.load(PerceiverForMultimodalAutoencoding, checkpoint)
    config = model.config
    if any(p not in (0, 1) for p in model.perceiver.input_preprocessor.mask_probs.values()):
        raise Unsupported("the checkpoint's inputs are masked at random")
    spec = VideoInput(
        frames=config.num_frames,
        frame_rate_hz=_FRAME_RATE_HZ,
        height=_FRAME_PIXELS,
        width=_FRAME_PIXELS,
        sample_rate_hz=_SAMPLE_RATE_HZ,
        audio_samples=config.num_frames * config.audio_samples_per_frame,
    )
    clips = _clips(spec)
    cases = tuple(
        Case(name, feeds, _reference(model, feeds))
        for name, feeds in (
            ("a pan over a photo, with speech", {k: clip[:1] for k, clip in clips.items()}),
            ("2 pans over photos, one silent", {k: clip[1:] for k, clip in clips.items()}),
        )
    )
    cross = model.perceiver.encoder.cross_attention.attention
    cross.self = _AttentionByParts(cross.self)
    return Plan(
        description=f"Video encoder, Perceiver IO of {config.num_latents} latents, "
        "for frames and sound",
        dimensions=config.d_latents,
        towers=(
            TowerPlan(
                tower=Tower(
                    graph="video.onnx",
                    input=spec,
                    outputs=(
                        Output(name="pooled", pooling=Pooling.MEAN, normalized=False),
                        Output(name="latents", pooling=Pooling.NONE, normalized=False),
                    ),
                    max_batch_rows=_MAX_BATCH_ROWS,
                    max_batch_positions=_MAX_BATCH_ROWS,
                ),
                module=VideoEncoder(model, spec),
                axes={name: {0: "batch"} for name in ("frames", "audio", "pooled", "latents")},
                cases=cases,
            ),
        ),
    )


def write_untrained(config: dict[str, Any], folder: Path) -> None:
    """Write a checkpoint with random weights."""
    PerceiverForMultimodalAutoencoding(PerceiverConfig(**config)).save_pretrained(folder)


def _check(checkpoint: Checkpoint) -> None:
    """Raise Unsupported unless the checkpoint is of the multimodal autoencoder."""
    config = checkpoint.json("config.json")
    wanted = PerceiverForMultimodalAutoencoding.__name__
    if wanted not in (config.get("architectures") or [wanted]):
        raise Unsupported(
            f"config.json: {', '.join(config['architectures'])} is not {wanted}, the only "
            "Perceiver that is supported"
        )
    patches = config.get("image_size", _FRAME_PIXELS // _PATCH_PIXELS)
    if patches != _FRAME_PIXELS // _PATCH_PIXELS:
        raise Unsupported(
            f"config.json: image_size {patches} is not {_FRAME_PIXELS // _PATCH_PIXELS}, "
            f"a frame's {_FRAME_PIXELS} pixels in patches of {_PATCH_PIXELS}"
        )


def _inputs(frames: torch.Tensor, audio: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what the model takes: float32 [batch, frames, 3, H, W], [batch, samples, 1].

    Pixels are divided by 255 and no more, as in the reference.
    """
    return frames.permute(0, 1, 4, 2, 3).to(torch.float32) / 255.0, audio.unsqueeze(2)


def _clips(spec: VideoInput) -> Feeds:
    """Return three clips: the camera moves over a photo while someone speaks, or nobody."""
    margin = _PAN_PIXELS * (spec.frames - 1)
    photos = samples.photos(spec.height + margin, spec.width + margin)
    offsets = [_PAN_PIXELS * frame for frame in range(spec.frames)]
    frames = np.stack(
        [
            np.stack([photo[at : at + spec.height, at : at + spec.width] for at in offsets])
            for photo in photos
        ]
    )
    audio = np.zeros((len(frames), spec.audio_samples), dtype=np.float32)
    for row, clip in zip(audio, samples.speech(), strict=False):
        times = np.arange(spec.audio_samples) / spec.sample_rate_hz
        row[:] = np.interp(times, np.arange(len(clip)) / samples.SPEECH_RATE_HZ, clip)
    return {"frames": frames, "audio": audio}


def _reference(
    model: PerceiverForMultimodalAutoencoding, feeds: Feeds
) -> tuple[npt.NDArray[np.float32], ...]:
    """Return what transformers' preprocessor and encoder give, pooled in numpy."""
    images, audio = _inputs(*(torch.from_numpy(array) for array in feeds.values()))
    label = torch.zeros(len(images), model.config.num_labels)
    perceiver = model.perceiver
    # Without its decoder, whose queries would reconstruct the clip.
    with torch.inference_mode():
        inputs = perceiver.input_preprocessor({"image": images, "audio": audio, "label": label})[0]
        latents = perceiver.encoder(
            perceiver.embeddings(batch_size=len(images)), inputs=inputs
        ).last_hidden_state.numpy()
    return latents.mean(1), latents
