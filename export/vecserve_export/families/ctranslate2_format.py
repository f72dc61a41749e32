"""CTranslate2's model.bin: the file format, and Whisper encoders read from it.

The format is that of CTranslate2's converter (ctranslate2.specs.model_spec,
binary version 6): little-endian; u32 version; string spec name; u32 spec
revision; u32 count; count times {string name, u8 rank, u32 dimensions[rank],
u8 type, u32 bytes, data}; then aliases. A string is a u16 length and as many
bytes, the last one NUL.
"""

import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from vecserve_export.errors import Unsupported

MODEL_FILE = "model.bin"
_VERSION = 6
_TYPES = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2"}

Arrays = dict[str, npt.NDArray[np.generic]]


def read_arrays(path: Path, prefix: str) -> Arrays:
    """Return the arrays of a CTranslate2 Whisper file whose names start with `prefix`.

    Raises Unsupported if the file is something else or cut short.
    """
    with path.open("rb") as file:
        try:
            (version,) = struct.unpack("<I", file.read(4))
            if version != _VERSION:
                raise Unsupported(f"{path}: CTranslate2 version {version} is not {_VERSION}")
            if (spec := _string(file)) != "WhisperSpec":
                raise Unsupported(f"{path}: CTranslate2 model {spec} is not WhisperSpec")
            _revision, count = struct.unpack("<II", file.read(8))
            arrays: Arrays = {}
            for _ in range(count):
                name, array = _array(file, prefix)
                if array is not None:
                    arrays[name] = array
        except (struct.error, UnicodeDecodeError, ValueError) as error:
            raise Unsupported(f"{path} is not CTranslate2, or is cut short: {error}") from error
    return arrays


def whisper_encoder_state(path: Path) -> dict[str, npt.NDArray[np.float32]]:
    """Return the encoder's weights, float32, under the names of transformers' WhisperEncoder.

    Raises Unsupported as `read_arrays` does, or if the weights are quantized.
    """
    arrays = {
        name.removeprefix("encoder/"): array
        for name, array in read_arrays(path, "encoder/").items()
        if array.ndim > 0
    }
    if quantized := [name for name, array in arrays.items() if array.dtype.kind != "f"]:
        raise Unsupported(f"{path}: {quantized[0]} is quantized; convert with float16 or float32")
    state = {}
    for name, array in arrays.items():
        for target, value in _renamed(name, array):
            state[target] = value.astype(np.float32)
    for name in [name for name in state if name.endswith("q_proj.bias")]:
        # Whisper's keys have no bias: CTranslate2 writes zeros, transformers nothing.
        state.pop(name.replace("q_proj", "k_proj"))
    return state


def _string(file: BinaryIO) -> str:
    (length,) = struct.unpack("<H", file.read(2))
    return file.read(length).rstrip(b"\0").decode("utf-8")


def _array(file: BinaryIO, prefix: str) -> tuple[str, npt.NDArray[np.generic] | None]:
    name = _string(file)
    (rank,) = struct.unpack("<B", file.read(1))
    shape = struct.unpack(f"<{rank}I", file.read(4 * rank))
    kind, size = struct.unpack("<BI", file.read(5))
    if not name.startswith(prefix):
        file.seek(size, 1)
        return name, None
    return name, np.frombuffer(file.read(size), dtype=_TYPES[kind]).reshape(shape)


_LAYER_NAMES = {
    "self_attention/layer_norm/": "self_attn_layer_norm.",
    "self_attention/linear_1/": "self_attn.out_proj.",
    "ffn/layer_norm/": "final_layer_norm.",
    "ffn/linear_0/": "fc1.",
    "ffn/linear_1/": "fc2.",
}


def _renamed(
    name: str, array: npt.NDArray[np.generic]
) -> list[tuple[str, npt.NDArray[np.generic]]]:
    """Return the array under transformers' name; three, where it stacks q, k and v."""
    if name == "position_encodings/encodings":
        return [("embed_positions.weight", array)]
    layer, _, rest = name.partition("/")
    if not layer.startswith("layer_") or not layer.removeprefix("layer_").isdigit():
        return [(_parameter(name.replace("/", ".")), array)]
    layer = f"layers.{layer.removeprefix('layer_')}."
    if rest.startswith("self_attention/linear_0/"):
        kind = rest.rpartition("/")[2]
        parts = np.split(array, 3)
        return [
            (f"{layer}self_attn.{part}_proj.{kind}", value)
            for part, value in zip("qkv", parts, strict=True)
        ]
    for ours, theirs in _LAYER_NAMES.items():
        if rest.startswith(ours):
            return [(layer + _parameter(theirs + rest.removeprefix(ours)), array)]
    raise Unsupported(f"CTranslate2 array {name} is not part of a Whisper encoder")


def _parameter(name: str) -> str:
    return name.replace("gamma", "weight").replace("beta", "bias")
