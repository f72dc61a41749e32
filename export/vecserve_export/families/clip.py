"""CLIP encoders: a text and an image tower whose vectors share one space."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from vecserve_export import samples
from vecserve_export.catalog import CLIP_MERGES
from vecserve_export.checkpoint import Checkpoint
from vecserve_export.errors import Unsupported
from vecserve_export.families import pretrained, texts
from vecserve_export.families.images import PixelsToValues, Preprocessing, preprocessing_of
from vecserve_export.plan import Case, Feeds, Plan, TowerPlan
from vecserve_server.repository.manifest import Output, Pooling, TextInput, Tower

_MAX_TEXT_ROWS = 32
_MAX_TEXT_POSITIONS = 1024
_MAX_IMAGE_ROWS = 8

# What https://huggingface.co/openai/clip-vit-base-patch32 has in
# preprocessor_config.json; the large models have the same.
_PREPROCESSING = {
    "crop_size": 224,
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_processor_type": "CLIPImageProcessor",
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "size": 224,
}


_Vectors = tuple[npt.NDArray[np.float32], ...]


class TextTower(torch.nn.Module):
    """Tokens to the projected vector of the end-of-text token."""

    def __init__(self, model: CLIPModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Take int64 [batch, sequence] twice, return unit and raw [batch, dimensions]."""
        # A token sees itself and what is before it, padding excepted.
        sequence = torch.arange(input_ids.shape[1])
        later = (sequence[None, :] > sequence[:, None]).float()[None, None]
        padding = 1.0 - attention_mask[:, None, None, :].float()
        hidden = torch.maximum(later, padding) * texts.MASKED
        return _unit_and_raw(
            self.model.get_text_features(input_ids=input_ids, attention_mask=hidden).pooler_output
        )


class ImageTower(torch.nn.Module):
    """Pixels to the projected vector of the class token."""

    def __init__(self, model: CLIPModel, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.values = PixelsToValues(preprocessing)
        self.model = model

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Take uint8 [batch, H, W, 3], return unit and raw [batch, dimensions]."""
        return _unit_and_raw(self.model.get_image_features(self.values(pixels)).pooler_output)


def plan(checkpoint: Checkpoint) -> Plan:
    """Plan the bundle of a CLIP checkpoint. Raises Unsupported."""
    model = pretrained.load(CLIPModel, checkpoint)
    preprocessing = preprocessing_of(checkpoint)
    tokenizer = texts.load_tokenizer(checkpoint)
    max_tokens = model.config.text_config.max_position_embeddings
    pad_id = tokenizer.token_to_id("<|endoftext|>")
    if pad_id is None:
        raise Unsupported("tokenizer.json: <|endoftext|> is not in CLIP's vocabulary")
    crop = preprocessing.input
    photos = samples.photos(crop.crop_height, crop.crop_width)
    # References first, with the attention the checkpoint comes with.
    text_cases = tuple(
        Case(name, feeds, _text_reference(model, feeds))
        for name, feeds in texts.sample_feeds(tokenizer, max_tokens, pad_id).items()
    )
    image_cases = tuple(
        Case(
            f"{len(pixels)} photos",
            {"pixels": pixels},
            _image_reference(model, preprocessing, pixels),
        )
        for pixels in (photos[:2], photos[2:])
    )
    model.set_attn_implementation("eager")
    tokens = {0: "batch", 1: "sequence"}
    outputs = {"unit_projection": {0: "batch"}, "projection": {0: "batch"}}
    return Plan(
        description=f"CLIP, images as {_patches(model)} and texts in one space",
        dimensions=model.config.projection_dim,
        towers=(
            TowerPlan(
                tower=Tower(
                    graph="text.onnx",
                    input=TextInput(
                        tokenizer=texts.TOKENIZER_FILE, max_tokens=max_tokens, pad_id=pad_id
                    ),
                    outputs=_outputs(Pooling.LAST),
                    max_batch_rows=_MAX_TEXT_ROWS,
                    max_batch_positions=_MAX_TEXT_POSITIONS,
                ),
                module=TextTower(model),
                axes={"input_ids": tokens, "attention_mask": tokens, **outputs},
                cases=text_cases,
            ),
            TowerPlan(
                tower=Tower(
                    graph="image.onnx",
                    input=preprocessing.input,
                    outputs=_outputs(Pooling.CLS),
                    max_batch_rows=_MAX_IMAGE_ROWS,
                    max_batch_positions=_MAX_IMAGE_ROWS,
                ),
                module=ImageTower(model, preprocessing),
                axes={"pixels": {0: "batch"}, **outputs},
                cases=image_cases,
            ),
        ),
        files={texts.TOKENIZER_FILE: tokenizer.to_str().encode()},
    )


def write_untrained(config: dict[str, Any], folder: Path) -> None:
    """Write a checkpoint with random weights into a folder that has the BPE vocabulary."""
    CLIPModel(CLIPConfig(**config)).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(_PREPROCESSING))
    bpe_tokenizer(folder / CLIP_MERGES).save_pretrained(folder)


def bpe_tokenizer(path: Path) -> CLIPTokenizer:
    """Build CLIP's tokenizer from OpenAI's list of byte pair merges.

    The vocabulary, 49,408 tokens, is the 256 bytes, the same at the end of a
    word, one token a merge, and the two marks, in this order
    (https://github.com/openai/CLIP/blob/main/clip/simple_tokenizer.py).
    """
    lines = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")
    merges = [line.split() for line in lines[1 : 49152 - 256 - 2 + 1]]
    alphabet = _byte_alphabet()
    tokens = [
        *alphabet,
        *(letter + "</w>" for letter in alphabet),
        *("".join(pair) for pair in merges),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    return CLIPTokenizer(
        vocab={token: number for number, token in enumerate(tokens)},
        merges=[(first, second) for first, second in merges],
    )


def _byte_alphabet() -> list[str]:
    """Return the letter of each byte: itself if printable, else one past 255, in GPT-2's order."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1)]
    printable += range(ord("®"), ord("ÿ") + 1)
    return [chr(byte) for byte in printable] + [chr(256 + n) for n in range(256 - len(printable))]


def _outputs(pooling: Pooling) -> tuple[Output, ...]:
    return (
        # Texts and images are compared by cosine.
        Output(name="unit_projection", pooling=pooling, normalized=True),
        Output(name="projection", pooling=pooling, normalized=False),
    )


def _patches(model: CLIPModel) -> str:
    vision = model.config.vision_config
    return f"{vision.patch_size}-pixel patches of {vision.image_size}"


def _unit_and_raw(projected: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.nn.functional.normalize(projected, dim=-1), projected


def _text_reference(model: CLIPModel, feeds: Feeds) -> _Vectors:
    inputs = {name: torch.from_numpy(array) for name, array in feeds.items()}
    with torch.inference_mode():
        return _unit_and_raw_in_numpy(model.get_text_features(**inputs).pooler_output)


def _image_reference(
    model: CLIPModel, preprocessing: Preprocessing, pixels: npt.NDArray[np.uint8]
) -> _Vectors:
    values = preprocessing.reference(pixels)
    with torch.inference_mode():
        return _unit_and_raw_in_numpy(model.get_image_features(values).pooler_output)


def _unit_and_raw_in_numpy(projected: torch.Tensor) -> _Vectors:
    raw = projected.numpy()
    return raw / np.linalg.norm(raw, axis=-1, keepdims=True), raw
