"""Pretrained checkpoint on disk, in Hugging Face's layout."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vecserve_export.errors import Unsupported
from vecserve_server.repository.manifest import Source


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder with config.json and weights, and where it came from.

    `license` is that of the weights, an SPDX identifier where there is one.
    `prompts` are those of the catalog, for a text encoder whose folder has none.
    """

    folder: Path
    source: Source
    license: str
    trained: bool
    prompts: Mapping[str, str] = field(default_factory=dict)

    def json(self, file: str) -> dict[str, Any]:
        """Return a JSON file of the folder; an empty dict if it is not there.

        Raises Unsupported if it is not a JSON object.
        """
        path = self.folder / file
        if not path.is_file():
            return {}
        try:
            content = json.loads(path.read_text("utf-8"))
        except ValueError as error:
            raise Unsupported(f"{path} is not JSON: {error}") from error
        if not isinstance(content, dict):
            raise Unsupported(f"{path} holds no JSON object")
        return content
