"""Boundaries between packages, and the order of layers inside them (map: CONTRIBUTING.md)."""

import ast
import graphlib
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import ROOT

# Package: the folder that holds it.
PACKAGES = {
    "vecserve": ROOT / "client",
    "vecserve_server": ROOT / "server",
    "vecserve_export": ROOT / "export",
    "benchmarks": ROOT,
}

# Package: its layers, lowest first. A layer is the names of modules and subpackages of that
# package; its modules import from lower layers only, neither from a higher one nor from each
# other. Every file of a package that is listed here must be in a layer: a new one has to
# be added.
LAYERS = {
    "vecserve": [
        "v1",
        "_deadline _extras _failures _options models",
        "_items _results",
        "_channel errors",
        "_stream",
        "aio client",
        "__init__",
        "bench evaluation store",
        "cli",
        "__main__",
    ],
    "vecserve.store": ["records", "base", "filters milvus", "parquet", "__init__"],
    "vecserve.bench": [
        "__init__ environment load plots processes samples targets",
        "options statistics wire workers workload",
        "measure oip streams sweep typed",
        "driver report",
        "worker",
    ],
    "vecserve.cli": [
        "inputs outputs page terminal",
        "heatmap sources",
        "indexing",
        "bench embed index models similarity",
        "search",
        "comparing",
        "compare",
        "__init__",
    ],
    "vecserve.evaluation": [
        "__init__ encodings",
        "metrics",
        "task",
        "intervals labels pairs retrieval",
        "answer plot",
    ],
    "vecserve_server": [
        "__init__ malloc reasons wording",
        "errors",
        "repository",
        "engine modalities",
        "scheduling",
        "telemetry",
        "serving",
        "loading",
        "config models",
        "api",
        "app",
        "run",
        "__main__",
    ],
    "vecserve_server.api": ["__init__", "rpc", "embedding oip"],
    "vecserve_server.api.embedding": [
        "__init__ call chunks requests",
        "describe results",
        "items",
        "stream",
        "service",
    ],
    "vecserve_server.api.oip": [
        "__init__ stubs",
        "describe shared_memory tensors",
        "parameters",
        "inputs",
        "messages",
        "requests",
        "stream",
        "service",
    ],
    "vecserve_server.api.rpc": [
        "__init__ caller options status wire",
        "drain health parsing",
        "calls handlers",
        "answering interceptors reflection streaming",
        "server",
    ],
    "vecserve_server.engine": [
        "__init__ tensors watchdog",
        "arena bfloat16 padding",
        "providers",
        "session",
        "engine",
    ],
    "vecserve_server.engine.providers": [
        "__init__ base cpu_cache pinned",
        "cuda openvino",
        "select",
    ],
    "vecserve_server.loading": [
        "__init__ calibrate parity providers trial_rows",
        "batching_check",
        "resources",
        "graph",
        "bundle onnx_file",
    ],
    "vecserve_server.modalities": [
        "__init__ audio_tags audio_tolerance content image_formats png_chunks resample rows "
        "text_cut tiff_header",
        "audio_flac audio_mpeg audio_ogg audio_riff signatures",
        "audio_parts base encoding finish image_structure video_container",
        "audio_decode video_decode",
        "video_frames",
        "audio image text video",
        "registry",
    ],
    "vecserve_server.models": ["__init__", "registry", "manager"],
    "vecserve_server.repository": [
        "__init__ errors manifest",
        "config lfs",
        "bundle onnx_file",
        "unserved",
        "finder",
    ],
    "vecserve_server.scheduling": [
        "__init__ anticipation cost_model deadline",
        "options",
        "queue time_limit",
        "batch_filling fairness running_batch",
        "scheduler",
        "runner",
    ],
    "vecserve_server.serving": [
        "__init__ options semaphore",
        "budget graph request",
        "decoding",
        "model tensor_model tower",
        "bundle_model",
    ],
    "vecserve_server.serving.decoding": [
        "__init__ messages preload shared_memory",
        "worker",
        "process",
        "pool",
    ],
    "vecserve_server.telemetry": ["__init__ logs statistics timings", "metrics"],
    "vecserve_export": [
        "__init__ errors",
        "catalog",
        "packages request",
        "bundle checkpoint samples",
        "plan",
        "graph",
        "families",
        "verify weights",
        "self_consistency",
        "export",
        "__main__",
    ],
    "vecserve_export.graph": [
        "__init__ optimize",
        "trace",
        "fp16_emulation fused_attention",
        "fp16",
        "int8_operators",
        "int8",
    ],
    "vecserve_export.families": [
        "__init__ ctranslate2_format images melspectrogram pretrained sentence_modules texts",
        "sentence_head text_backbones",
        "clip image_encoder perceiver sscd text_encoder whisper",
        "torchvision_format",
        "registry",
    ],
    "benchmarks": [
        "__init__ baselines peers recall servers",
        "context",
        "gpu mlperf scenarios",
        "run",
    ],
    "benchmarks.gpu": [
        "__init__ profile timing utilisation workloads",
        "model server",
        "onnxruntime torch_compiled",
        "roofline",
        "report",
        "__main__",
    ],
    "benchmarks.mlperf": [
        "__init__ ledger",
        "sut",
        "loadgen",
        "accuracy",
        "scenarios",
        "__main__",
    ],
}

MANIFEST = "vecserve_server.repository.manifest"
PROTOBUF = ("google", "grpc", "grpc_status", "grpc_health", "grpc_reflection", "vecserve")

# Folder: prefixes of modules that its files must not import.
FORBIDDEN = {
    "client/vecserve": ("vecserve_server", "vecserve_export", "onnxruntime", "torch"),
    "server/vecserve_server": ("vecserve_export", "torch", "transformers", "onnx"),
    "server/vecserve_server/modalities": (*PROTOBUF, "onnxruntime"),
    "server/vecserve_server/engine": PROTOBUF,
    "server/vecserve_server/repository": (*PROTOBUF, "onnxruntime"),
    "server/vecserve_server/scheduling": PROTOBUF,
    "server/vecserve_server/serving": PROTOBUF,
    "export/vecserve_export": ("vecserve", "vecserve_server"),
    # The rules of the protocol: any server must be able to run them.
    "tests/contract": ("tests", "vecserve", "vecserve_server", "subprocess", "urllib"),
}
ALLOWED = {
    "export/vecserve_export": (MANIFEST,),
    "tests/contract": ("tests.contract", "vecserve.v1"),
}


@cache
def imports_of(path: Path) -> tuple[tuple[str, str], ...]:
    """What a file imports, wherever in it: a module, and the name taken from it or nothing."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found += [(node.module or "", alias.name) for alias in node.names]
    return tuple(found)


@cache
def files_of(package: str) -> dict[str, Path]:
    """The files of a package by their dotted names, a package's own being NAME.__init__."""
    root = PACKAGES[package.partition(".")[0]]
    return {
        ".".join(path.relative_to(root).with_suffix("").parts): path
        for path in sorted(root.joinpath(*package.split(".")).rglob("*.py"))
    }


@cache
def imported_files(name: str) -> frozenset[str]:
    """Dotted names of the files of its own top-level package that a file imports."""
    top = name.partition(".")[0]
    files = files_of(top)
    found = set()
    for module, attribute in imports_of(files[name]):
        candidates = (f"{module}.{attribute}", f"{module}.{attribute}.__init__", module)
        found |= {next((c for c in candidates if c in files), f"{module}.__init__")}
    return frozenset(found & files.keys())


def part_of(package: str, name: str) -> str:
    """The module or subpackage of a package that the file of a dotted name belongs to."""
    return name.removeprefix(f"{package}.").partition(".")[0]


def is_under(module: str, prefixes: tuple[str, ...]) -> bool:
    return any(module == prefix or module.startswith(prefix + ".") for prefix in prefixes)


@pytest.mark.parametrize("package", LAYERS)
def test_every_file_has_a_layer(package: str) -> None:
    listed = [name for layer in LAYERS[package] for name in layer.split()]
    found = {part_of(package, name) for name in files_of(package)}
    assert sorted(listed) == sorted(found), f"in one only: {sorted(found ^ set(listed))}"


@pytest.mark.parametrize("package", LAYERS)
def test_no_layer_imports_a_higher_one(package: str) -> None:
    height = {name: n for n, layer in enumerate(LAYERS[package]) for name in layer.split()}
    upward = [
        f"{name} imports {imported}"
        for name in files_of(package)
        for imported in sorted(imported_files(name))
        if is_under(imported, (package,))
        and part_of(package, imported) != part_of(package, name)
        and height[part_of(package, imported)] >= height[part_of(package, name)]
    ]
    assert not upward


@pytest.mark.parametrize("package", PACKAGES)
def test_no_import_circle_between_files(package: str) -> None:
    files = files_of(package)
    assert files
    try:
        graphlib.TopologicalSorter({name: imported_files(name) for name in files}).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_no_import_across_a_boundary(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    crossing = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in files
        for module in sorted({module for module, _ in imports_of(path)})
        if is_under(module, FORBIDDEN[folder]) and not is_under(module, ALLOWED.get(folder, ()))
    ]
    assert not crossing


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("vecserve", ["onnxruntime", "torch", "typer", "rich", "PIL", "pymilvus", "pyarrow"]),
        ("vecserve_server.app", ["torch", "transformers", "onnx", "av"]),
    ],
)
def test_what_an_import_brings_along(module: str, unwanted: list[str]) -> None:
    program = f"import sys, {module}; print([name for name in {unwanted} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
