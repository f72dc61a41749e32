"""ModelRegistry: which version answers who names none, and why one does not answer."""

import dataclasses
from pathlib import Path

import pytest

from vecserve_server.errors import ModelNotFound, ModelNotReady
from vecserve_server.models.registry import ModelRegistry, ModelVersion, State
from vecserve_server.repository.onnx_file import OnnxFile, OnnxFileConfig
from vecserve_server.serving.model import InService


@dataclasses.dataclass
class Model:
    """As much of a ServedModel as the registry looks at."""

    version: str
    name: str = "model"


@pytest.fixture
def registry() -> ModelRegistry:
    return ModelRegistry()


def add(
    registry: ModelRegistry, folder: Path, version: str, state: State = State.READY
) -> ModelVersion:
    """Register a version whose folder is there."""
    path = folder / "model" / version
    path.mkdir(parents=True, exist_ok=True)
    found = OnnxFile(path, "model", version, OnnxFileConfig(), sha256="")
    service = InService({"model": Model(version)}, ())  # type: ignore[dict-item]
    added = ModelVersion(found, state, service=service if state is State.READY else None)
    registry.put(added)
    return added


def test_the_latest_that_is_ready_comes_first(registry: ModelRegistry, tmp_path: Path) -> None:
    for version in ("2", "10"):
        add(registry, tmp_path, version)
    add(registry, tmp_path, "11", State.LOADING)
    assert registry.find("model").version == "10"
    assert registry.find("model", "2").version == "2"
    assert registry.ready_versions("model") == ["2", "10"]
    assert [model.version for model in registry.served()] == ["2", "10"]


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (State.LOADING, "MODEL_LOADING"),
        (State.UNLOADING, "MODEL_UNLOADED"),
        (State.UNAVAILABLE, "MODEL_UNLOADED"),
    ],
)
def test_one_that_is_not_ready_says_why(
    registry: ModelRegistry, tmp_path: Path, state: State, reason: str
) -> None:
    add(registry, tmp_path, "10", state)
    for version in ("", "10"):
        with pytest.raises(ModelNotReady) as raised:
            registry.find("model", version)
        assert raised.value.reason == reason


def test_one_that_is_unloaded_and_gone_from_disk_is_not_found(
    registry: ModelRegistry, tmp_path: Path
) -> None:
    version = add(registry, tmp_path, "1", State.UNAVAILABLE)
    version.found.folder.rmdir()
    with pytest.raises(ModelNotFound, match="no model 'model'; this server has: none"):
        registry.find("model")


def test_a_version_in_the_place_of_another_answers_for_it(
    registry: ModelRegistry, tmp_path: Path
) -> None:
    loading = add(registry, tmp_path, "1", State.LOADING)
    ready = add(registry, tmp_path, "1")
    registry.remove(loading)
    assert registry.all() == [ready]


def test_a_model_without_versions_is_gone(registry: ModelRegistry, tmp_path: Path) -> None:
    version = add(registry, tmp_path, "1")
    registry.remove(version)
    registry.remove(version)
    with pytest.raises(ModelNotFound, match="this server has: none"):
        registry.find("model")


def test_an_unknown_version_is_told_which_there_are(
    registry: ModelRegistry, tmp_path: Path
) -> None:
    add(registry, tmp_path, "1")
    for version in ("2", "x"):
        with pytest.raises(ModelNotFound, match=r"no version .*; it has: 1"):
            registry.find("model", version)


def test_a_model_of_tensors_takes_no_items(registry: ModelRegistry, tmp_path: Path) -> None:
    add(registry, tmp_path, "1")
    with pytest.raises(ModelNotFound, match="takes tensors only"):
        registry.find_bundle("model")
