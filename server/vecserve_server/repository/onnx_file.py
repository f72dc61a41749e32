"""ONNX files without a manifest: how they lie on disk, and what may be said of them.

A plain model is a folder `<repository>/<name>/<version>/` that holds
`model.onnx`, with its external data beside it where it has any. A file
`config.json`, there or one level up for all versions, may say more (`config`).
Triton's `config.pbtxt`, in the same places, is not read.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from vecserve_server.repository.config import CONFIG_FILE, ModelConfig, read_config
from vecserve_server.repository.errors import BundleError
from vecserve_server.repository.lfs import refuse_pointer

GRAPH_FILE = "model.onnx"
TRITON_CONFIG_FILE = "config.pbtxt"
# Rows of a request, and of a batch, where the config says nothing.
DEFAULT_MAX_BATCH_SIZE = 32

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class OnnxFileConfig(ModelConfig):
    """What `config.json` may say of a plain model; every field has a default."""

    max_batch_size: int | None = Field(
        default=None,
        ge=0,
        le=4096,
        description="rows of one request, and of one batch; 0: the first axis is no batch, every "
        f"request runs alone. Default: {DEFAULT_MAX_BATCH_SIZE} where the first axis of every "
        "input and output is free, else 0",
    )
    share_batches: bool | None = Field(
        default=None,
        description="whether requests share batches. Default: where random rows give the same "
        "together as alone, and the graph has no operator that is known to mix rows",
    )
    queue_delay_us: int | None = Field(
        default=None,
        ge=0,
        description="how long a request may be held back so that others join its batch, in "
        "microseconds. Default: the server's --queue-delay-us",
    )
    instances: int | None = Field(
        default=None,
        ge=1,
        description="batches of this model that may run at a time. Default: as many as there are "
        "cores to run them",
    )
    warm_up: bool = Field(
        default=True,
        description="measure batches of blank rows before the model is ready: the first callers "
        "then wait less, and share batches of the right size",
    )
    mask_input: str | None = Field(
        default="attention_mask",
        description="the input [batch, length] that masks padding, 1 where there is input; null: "
        "never pad, only requests of equal shapes share batches",
    )


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """A plain model as found: `sha256` is over all files of its folder."""

    folder: Path
    name: str
    version: str
    config: OnnxFileConfig
    sha256: str

    @property
    def graph(self) -> Path:
        """Its ONNX file."""
        return self.folder / GRAPH_FILE

    @property
    def triton_configs(self) -> list[Path]:
        """Configurations for Triton that lie with it."""
        paths = (self.folder / TRITON_CONFIG_FILE, self.folder.parent / TRITON_CONFIG_FILE)
        return [path for path in paths if path.is_file()]


def read_onnx_file(folder: Path) -> OnnxFile:
    """Read what lies in a folder `<repository>/<name>/<version>`. Raises BundleError."""
    name, version = folder.parent.name, folder.name
    if not _NAME.fullmatch(name):
        raise BundleError(
            f"{folder.parent} is no name of a model, which has letters, digits, '.', '_' and '-': "
            "rename the folder"
        )
    return OnnxFile(folder, name, version, read_config(folder, OnnxFileConfig), _hash_of(folder))


def _hash_of(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.name != CONFIG_FILE:
            refuse_pointer(path)
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256")
            digest.update(path.name.encode() + b"\0" + content.digest())
    return digest.hexdigest()
