"""From token vectors to a sentence's vector: pooling, dense layers, normalisation."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file

from vecserve_export.checkpoint import Checkpoint
from vecserve_export.errors import Unsupported
from vecserve_export.families.sentence_modules import HeadModule
from vecserve_export.families.texts import MASKED
from vecserve_server.repository.manifest import Pooling

_Array = npt.NDArray[np.float32]

# sentence-transformers' default.
_TANH = "torch.nn.modules.activation.Tanh"


class TokenPooling(torch.nn.Module):
    """Pools the vectors of the tokens; several poolings are concatenated."""

    def __init__(self, poolings: Sequence[Pooling]) -> None:
        super().__init__()
        self.poolings = poolings

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Take [batch, sequence, width] and int64 [batch, sequence] with 1 for a token, then 0.

        Return [batch, width * poolings].
        """
        pooled = [self._pool(pooling, tokens, mask) for pooling in self.poolings]
        return pooled[0] if len(pooled) == 1 else torch.cat(pooled, dim=-1)

    def _pool(self, pooling: Pooling, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if pooling is Pooling.CLS:
            return tokens[:, 0]
        weights = mask.unsqueeze(-1).float()
        if pooling is Pooling.MAX:
            return (tokens + (1.0 - weights) * MASKED).max(1).values
        # From 1: [sequence, 1].
        order = torch.arange(1, mask.shape[1] + 1)[:, None]
        if pooling is Pooling.LAST:
            last = order[None] == mask.sum(1)[:, None, None]
            return (tokens * last.float()).sum(1)
        if pooling is Pooling.WEIGHTED_MEAN:
            weights = weights * order.float()
        total = (tokens * weights).sum(1)
        count = weights.sum(1)
        return total / (count.sqrt() if pooling is Pooling.MEAN_SQRT_LEN else count)


class Dense(torch.nn.Module):
    """A linear layer, its activation, and perhaps what it was given added."""

    def __init__(self, settings: dict[str, Any], activation: torch.nn.Module) -> None:
        super().__init__()
        width, columns = settings["in_features"], settings["out_features"]
        self.linear = torch.nn.Linear(width, columns, bias=settings.get("bias", True))
        self.activation = activation
        self.adds_input = settings.get("use_residual", False)
        if self.adds_input and width != columns:
            self.residual = torch.nn.Linear(width, columns, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Take [batch, in_features], return [batch, out_features]."""
        y: torch.Tensor = self.activation(self.linear(x))
        if self.adds_input:
            y = y + (self.residual(x) if hasattr(self, "residual") else x)
        return y


class UnitLength(torch.nn.Module):
    """Divides each vector by its L2 length."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Take and return [batch, width]."""
        return torch.nn.functional.normalize(x, dim=-1)


def pool(poolings: Sequence[Pooling], tokens: Sequence[_Array]) -> _Array:
    """Pool each text's token vectors [tokens, width] in numpy, to [texts, width * poolings].

    Written apart from TokenPooling, which is verified by it.
    """
    rows = []
    for row in tokens:
        order = np.arange(1, len(row) + 1, dtype=np.float64)[:, None]
        pooled = {
            Pooling.CLS: row[0],
            Pooling.LAST: row[-1],
            Pooling.MAX: row.max(0),
            Pooling.MEAN: row.mean(0),
            Pooling.MEAN_SQRT_LEN: row.sum(0) / np.sqrt(len(row)),
            Pooling.WEIGHTED_MEAN: (row * order).sum(0) / order.sum(),
        }
        rows.append(np.concatenate([pooled[pooling] for pooling in poolings]))
    return np.array(rows, np.float32)


def load_head(checkpoint: Checkpoint, modules: Sequence[HeadModule]) -> list[torch.nn.Module]:
    """Return the modules behind the pooling, with their weights. Raises Unsupported."""
    return [
        _load(checkpoint, module).eval()
        # Nothing is dropped outside of training.
        for module in modules
        if module.kind != "Dropout"
    ]


def _load(checkpoint: Checkpoint, module: HeadModule) -> torch.nn.Module:
    settings = module.settings
    try:
        match module.kind:
            case "Normalize":
                return UnitLength()
            case "LayerNorm":
                norm = torch.nn.LayerNorm(settings["dimension"])
                norm.load_state_dict(
                    {
                        name.removeprefix("norm."): tensor
                        for name, tensor in _weights(checkpoint, module).items()
                    }
                )
                return norm
            case _:
                dense = Dense(settings, _activation(module))
                dense.load_state_dict(_weights(checkpoint, module))
                return dense
    except KeyError as error:
        raise Unsupported(f"{module.folder}/config.json lacks {error}") from error
    except RuntimeError as error:  # names or shapes that do not match
        raise Unsupported(f"{module.folder}: its weights do not fit: {error}") from error


def _activation(module: HeadModule) -> torch.nn.Module:
    """Return the activation that a Dense names, which must be one of PyTorch's classes."""
    name = module.settings.get("activation_function", _TANH)
    kind = (
        getattr(torch.nn, name.rpartition(".")[2], None) if name.startswith("torch.nn.") else None
    )
    if not (isinstance(kind, type) and issubclass(kind, torch.nn.Module)):
        raise Unsupported(
            f"{module.folder}/config.json: activation_function {name} is none of torch.nn's: "
            "export a model whose activation is"
        )
    activation: torch.nn.Module = kind()
    return activation


def _weights(checkpoint: Checkpoint, module: HeadModule) -> dict[str, torch.Tensor]:
    folder = checkpoint.folder / module.folder
    if (path := folder / "model.safetensors").is_file():
        weights: dict[str, torch.Tensor] = load_file(path)
    elif (path := folder / "pytorch_model.bin").is_file():
        # Tensors only: no code of a pickle is run.
        weights = torch.load(path, map_location="cpu", weights_only=True)
    else:
        raise Unsupported(
            f"{module.folder} has no weights: neither model.safetensors nor pytorch_model.bin"
        )
    return {name: tensor.float() for name, tensor in weights.items()}
