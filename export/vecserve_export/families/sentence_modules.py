"""Modules of a sentence-transformers folder: transformer, pooling, dense layers, prompts.

A folder lists its modules in modules.json, each with a folder of its own
(https://www.sbert.net/docs/package_reference/sentence_transformer/modules.html).
A folder without modules.json is a transformer that is mean-pooled, as
sentence-transformers has it. A setting that would change vectors and is not known
here is refused by its name.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from vecserve_export.checkpoint import Checkpoint
from vecserve_export.errors import Unsupported
from vecserve_server.repository.manifest import Pooling

MODULES_FILE = "modules.json"
_PROMPTS_FILE = "config_sentence_transformers.json"

_TRANSFORMER, _POOLING = "Transformer", "Pooling"
# What may follow the pooling.
HEAD = ("Dense", "LayerNorm", "Dropout", "Normalize")
_KNOWN = (_TRANSFORMER, _POOLING, *HEAD)
# What else sentence-transformers has, and what to do instead.
_REFUSED = {
    "Asym": "export the folder of the one encoder to serve",
    "Router": "export the folder of the one encoder to serve",
    "CLIPModel": "export the CLIP checkpoint that is in it",
    "StaticEmbedding": "it has no transformer; choose a model that has one",
    "BoW": "it has no transformer; choose a model that has one",
    "WordEmbeddings": "it has no transformer; choose a model that has one",
    "WordWeights": "it has no transformer; choose a model that has one",
    "CNN": "train the model with Pooling in its place",
    "LSTM": "train the model with Pooling in its place",
    "WeightedLayerPooling": "train the model without it",
}

# Older folders name the file after the architecture.
_SETTINGS_FILES = (
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
)
# Settings of the transformer that vecserve follows, or that change no vector.
_FOLLOWED = ("max_seq_length", "do_lower_case", "unpad_inputs", "cache_dir")
# Settings with the only values that vecserve knows.
_FIXED: dict[str, tuple[object, ...]] = {
    "transformer_task": ("feature-extraction",),
    "module_output_name": ("token_embeddings",),
    "modality_config": (
        {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
        {"text": {"method": "forward", "method_output_name": ["last_hidden_state"]}},
    ),
}
# Keyword arguments of transformers' loaders, which old and new folders name differently.
_ARGUMENTS = {
    "model_args": ("add_pooling_layer", "attn_implementation", "dtype", "torch_dtype"),
    "config_args": (),
    "tokenizer_args": ("model_max_length",),
}
_ARGUMENTS |= {
    "model_kwargs": _ARGUMENTS["model_args"],
    "config_kwargs": _ARGUMENTS["config_args"],
    "processor_kwargs": _ARGUMENTS["tokenizer_args"],
}
# Code of the folder's own is never run.
_CODE_SWITCHES = ("trust_remote_code", "code_revision")

_POOLINGS = {
    "cls": Pooling.CLS,
    "max": Pooling.MAX,
    "mean": Pooling.MEAN,
    "mean_sqrt_len_tokens": Pooling.MEAN_SQRT_LEN,
    "weightedmean": Pooling.WEIGHTED_MEAN,
    "lasttoken": Pooling.LAST,
}
# In the order in which several are concatenated.
_POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_SENTENCE = "sentence_embedding"


@dataclass(frozen=True, slots=True)
class HeadModule:
    """One module behind the pooling: `kind` is one of HEAD, `folder` relative to the checkpoint."""

    kind: str
    folder: str
    settings: dict[str, Any]


@dataclass(frozen=True, slots=True)
class SentenceModules:
    """What a sentence-transformers folder says of itself.

    `transformer` is the checkpoint of the transformer and its tokenizer,
    `poolings` are concatenated if there are several. `max_tokens` is None where
    the tokenizer and the transformer decide. `default_prompt` is a name of `prompts`.
    """

    transformer: Checkpoint
    poolings: tuple[Pooling, ...]
    head: tuple[HeadModule, ...]
    max_tokens: int | None
    lower_case: bool
    prompts: dict[str, str]
    default_prompt: str | None


def read(checkpoint: Checkpoint) -> SentenceModules:
    """Read a folder. Raises Unsupported, which names the module or setting and what to do."""
    if not (checkpoint.folder / MODULES_FILE).is_file():
        return SentenceModules(
            transformer=checkpoint,
            poolings=(Pooling.MEAN,),
            head=(),
            max_tokens=None,
            lower_case=False,
            prompts=dict(checkpoint.prompts),
            default_prompt=None,
        )
    (_, transformer), (_, pooling), *head = check_types(checkpoint.folder)
    settings = _transformer_settings(checkpoint, transformer)
    prompts, default_prompt = _prompts(checkpoint)
    return SentenceModules(
        transformer=replace(checkpoint, folder=checkpoint.folder / transformer),
        poolings=_poolings(checkpoint, f"{pooling}/config.json"),
        head=tuple(_head_module(checkpoint, kind, folder) for kind, folder in head),
        max_tokens=settings.get("max_seq_length") or _max_length_argument(settings),
        lower_case=bool(settings.get("do_lower_case")),
        prompts=prompts,
        default_prompt=default_prompt,
    )


def check_types(folder: Path) -> list[tuple[str, str]]:
    """Return the kind and the folder of every module: Transformer, Pooling, then any of HEAD.

    Raises Unsupported.
    """
    path = folder / MODULES_FILE
    try:
        modules = [
            (module["type"], module["path"], module.get("kwargs"))
            for module in json.loads(path.read_text("utf-8"))
        ]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Unsupported(f"{path} is no list of modules: {error!r}") from error
    found = []
    for name, inside, kwargs in modules:
        package, _, kind = name.rpartition(".")
        if package.partition(".")[0] != "sentence_transformers":
            raise Unsupported(
                f"{MODULES_FILE}: {name} is code of the model's own, which is not run: export a "
                "model made of sentence-transformers' modules"
            )
        if kind not in _KNOWN:
            advice = _REFUSED.get(kind, "export a model without it")
            raise Unsupported(f"{MODULES_FILE}: module {kind} is not supported: {advice}")
        if kwargs:
            raise Unsupported(
                f"{MODULES_FILE}: {kind} takes {kwargs} from each call, which is not supported: "
                "export a model without"
            )
        if PurePosixPath(inside).is_absolute() or ".." in PurePosixPath(inside).parts:
            raise Unsupported(f"{MODULES_FILE}: {inside} is not inside the folder")
        found.append((kind, inside))
    kinds = [kind for kind, _ in found]
    if kinds[:2] != [_TRANSFORMER, _POOLING] or not set(kinds[2:]) <= set(HEAD):
        raise Unsupported(
            f"{MODULES_FILE}: {', '.join(kinds) or 'no module'} is not {_TRANSFORMER}, {_POOLING} "
            f"and then any of {', '.join(HEAD)}: export a model that is"
        )
    return found


def _transformer_settings(checkpoint: Checkpoint, folder: str) -> dict[str, Any]:
    name, settings = next(
        (
            (name, settings)
            for name in _SETTINGS_FILES
            if (settings := checkpoint.json(str(PurePosixPath(folder, name))))
        ),
        (_SETTINGS_FILES[0], {}),
    )
    for key, value in settings.items():
        if key in _FOLLOWED or value in (None, {}, False):
            continue
        if key in _FIXED:
            understood = value in _FIXED[key]
        elif key in _ARGUMENTS:
            unknown = [
                argument
                for argument in value
                if argument not in _ARGUMENTS[key] and argument not in _CODE_SWITCHES
            ]
            understood, value = not unknown, ", ".join(unknown)
        else:
            understood = False
        if not understood:
            raise Unsupported(
                f"{name}: {key} {value} is not supported: export a model without this setting"
            )
    return settings


def _max_length_argument(settings: dict[str, Any]) -> int | None:
    for key in ("processor_kwargs", "tokenizer_args"):
        length: int | None = (settings.get(key) or {}).get("model_max_length")
        if length:
            return length
    return None


def _poolings(checkpoint: Checkpoint, file: str) -> tuple[Pooling, ...]:
    settings = checkpoint.json(file)
    known = {"word_embedding_dimension", "embedding_dimension", "pooling_mode", "include_prompt"}
    unknown = [key for key, value in settings.items() if value and key not in known]
    if unknown := [key for key in unknown if key not in _POOLING_FLAGS]:
        raise Unsupported(
            f"{file}: {', '.join(unknown)} is not supported: pool by one of {', '.join(_POOLINGS)}"
        )
    if settings.get("include_prompt") is False:
        raise Unsupported(
            f"{file}: include_prompt false (Instructor models) is not supported, as the server "
            "cannot leave a prompt's tokens out of the pooling: export a model that pools them"
        )
    modes = settings.get("pooling_mode") or [
        mode for flag, mode in _POOLING_FLAGS.items() if settings.get(flag)
    ]
    modes = [modes] if isinstance(modes, str) else modes or ["mean"]
    if unknown := [mode for mode in modes if mode not in _POOLINGS]:
        raise Unsupported(
            f"{file}: pooling_mode {', '.join(map(str, unknown))} is not supported: pool by one "
            f"of {', '.join(_POOLINGS)}"
        )
    return tuple(_POOLINGS[mode] for mode in modes)


def _head_module(checkpoint: Checkpoint, kind: str, folder: str) -> HeadModule:
    file = f"{folder}/config.json"
    settings = checkpoint.json(file)
    for key in ("module_input_name", "module_output_name"):
        if (value := settings.get(key)) not in (None, _SENTENCE):
            raise Unsupported(
                f"{file}: {key} {value} is not supported: export a model whose {kind} works on "
                "the sentence's vector"
            )
    return HeadModule(kind, folder, settings)


def _prompts(checkpoint: Checkpoint) -> tuple[dict[str, str], str | None]:
    """Return the prompts by name and the default's name.

    Those of the catalog count where the folder has none: many were trained with
    prompts that only their model card tells.
    """
    settings = checkpoint.json(_PROMPTS_FILE)
    kind = settings.get("model_type", "SentenceTransformer")
    if kind != "SentenceTransformer":
        raise Unsupported(
            f"{_PROMPTS_FILE}: a {kind} gives no single vector a text and is not supported: "
            "export a SentenceTransformer"
        )
    if dimensions := settings.get("truncate_dim"):
        raise Unsupported(
            f"{_PROMPTS_FILE}: truncate_dim {dimensions} is not supported: remove it from the "
            "file, and truncate the vectors that are served"
        )
    prompts = {name: text or "" for name, text in (settings.get("prompts") or {}).items()}
    default = settings.get("default_prompt_name")
    if default is not None and default not in prompts:
        raise Unsupported(
            f"{_PROMPTS_FILE}: default_prompt_name {default} is none of the prompts "
            f"({', '.join(prompts) or 'there are none'}): correct it"
        )
    # sentence-transformers writes empty ones for models that have none.
    return (prompts, default) if any(prompts.values()) else (dict(checkpoint.prompts), None)
