"""Which version answers who names none."""

from dataclasses import dataclass

import pytest

from vecserve_server.errors import ModelNotFound
from vecserve_server.models.registry import Versions


@dataclass(frozen=True)
class Version:
    version: str
    ready: bool
    name: str = "model"


def table(*versions: Version) -> Versions[Version]:
    made = Versions[Version](answers=lambda version: version.ready)
    for version in versions:
        made.put(version)
    return made


def test_the_latest_that_answers_comes_first() -> None:
    versions = table(Version("2", True), Version("10", True), Version("11", False))
    assert versions.find("model").version == "10"


def test_while_none_answers_it_is_the_latest() -> None:
    assert table(Version("10", False), Version("2", False)).find("model").version == "10"


def test_a_version_in_the_place_of_another_answers_for_it() -> None:
    versions = table(Version("1", False), Version("1", True))
    assert versions.all() == [Version("1", True)]


def test_a_model_without_versions_is_gone() -> None:
    versions = table(Version("1", True))
    versions.remove("model", "1")
    versions.remove("model", "1")
    with pytest.raises(ModelNotFound, match="this server has: none"):
        versions.find("model")
