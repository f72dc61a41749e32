"""Export request: the model, the sources of its weights, the precision."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vecserve_export import catalog
from vecserve_export.catalog import KnownModel

HUB, PACKAGES, UNTRAINED = "hub", "packages", "untrained"

Precision = Literal["fp32", "fp16", "int8"]

# Layer normalisation became an operator with 17, which most runtimes know; the
# tracing exporter of PyTorch ends at 20.
MIN_OPSET, DEFAULT_OPSET, MAX_OPSET = 17, 17, 20


@dataclass(frozen=True, slots=True)
class Request:
    """The model to export, and where its weights may come from.

    `model` is a name of the catalog, a hub id (owner/name) or a folder; a name
    of the catalog wins over a folder of that name. `source` is hub, packages,
    untrained, a folder, or None for the usual order. `allow_untrained` adds
    random weights as the last resort of that order. `cache` is where files
    out of packages are kept. An fp16 or int8 bundle is a model of its own, so that
    it can be served beside fp32's. `matryoshka` are the numbers that vectors may be
    cut to, where the catalog's entry does not say.
    """

    model: str
    source: str | None
    allow_untrained: bool
    cache: Path
    precision: Precision = "fp32"
    matryoshka: tuple[int, ...] = ()

    @property
    def known(self) -> KnownModel | None:
        """The catalog's entry, if there is one."""
        return catalog.find(self.model)

    @property
    def name(self) -> str:
        """The bundle's name: the last part of the model's, and the precision unless fp32."""
        model = self.known.name if self.known else Path(self.model).resolve().name
        return model if self.precision == "fp32" else f"{model}-{self.precision}"

    @property
    def matryoshka_dimensions(self) -> tuple[int, ...]:
        """How many of a vector's numbers may be kept, as the model was trained; else empty."""
        known = self.known.matryoshka if self.known else ()
        return tuple(sorted(set(self.matryoshka or known)))

    @property
    def folder(self) -> Path | None:
        """The checkpoint's folder, if one was named."""
        if self.source in (HUB, PACKAGES, UNTRAINED):
            return None
        if self.source is not None:
            return Path(self.source)
        return Path(self.model) if not self.known and Path(self.model).is_dir() else None

    @property
    def order(self) -> tuple[str, ...]:
        """The sources to try where no folder was named, best first."""
        first = (self.source,) if self.source else (HUB, PACKAGES)
        last = (UNTRAINED,) if self.allow_untrained and UNTRAINED not in first else ()
        return first + last
