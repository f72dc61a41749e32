"""Operator's configuration of a model, in a `config.json`.

It lies beside the model, or one level up for all its versions. A bundle's manifest
comes from the exporter and is not to be edited; this file is.
"""

from pathlib import Path
from typing import Literal, TypeVar

from pydantic import Field, ValidationError

from vecserve_server.repository.errors import BundleError
from vecserve_server.repository.manifest import Record

CONFIG_FILE = "config.json"

Provider = Literal["cpu", "cuda", "openvino"]


class ModelConfig(Record):
    """What may be said of any model; every field has a default."""

    execution_provider: Provider | None = Field(
        default=None,
        description="what runs the graph: ONNX Runtime's own cpu, CUDA, or OpenVINO, in bfloat16 "
        "where the processor has it. Default: the server's --provider",
    )


Config = TypeVar("Config", bound=ModelConfig)


def read_config(folder: Path, kind: type[Config]) -> Config:
    """Read what is said of the model in `folder`, `<repository>/<model>/<version>`.

    Raises BundleError.
    """
    for path in (folder / CONFIG_FILE, folder.parent / CONFIG_FILE):
        if path.is_file():
            try:
                return kind.model_validate_json(path.read_bytes())
            except ValidationError as error:
                problems = "; ".join(
                    f"{'.'.join(map(str, detail['loc'])) or 'file'}: {detail['msg']}"
                    for detail in error.errors()
                )
                raise BundleError(f"{path} is no valid configuration: {problems}") from error
    return kind()
