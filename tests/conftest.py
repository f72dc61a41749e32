"""What all tests share: the four bundles and one server that has them."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import soundfile

from tests.support.server_process import ServerProcess
from vecserve.v1.embedding_pb2_grpc import EmbeddingServiceStub

ROOT = Path(__file__).parent.parent
MODELS = ("all-MiniLM-L6-v2", "clip-vit-base-patch32", "resnet-50", "whisper-base")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--server",
        metavar="HOST:PORT",
        help="a running server of the four bundles, of any make, for tests/contract",
    )


@pytest.fixture(scope="session")
def repository() -> Path:
    """The model repository that `make export` fills."""
    folder = ROOT / "models"
    missing = [name for name in MODELS if not (folder / name / "1" / "manifest.json").is_file()]
    assert not missing, f"no bundle of {', '.join(missing)}: run `make export`"
    return folder


@pytest.fixture(scope="session")
def repository_of(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Makes a repository of only the models named."""

    def make(*names: str) -> Path:
        folder = tmp_path_factory.mktemp("repository")
        for name in names:
            (folder / name).symlink_to(repository / name)
        return folder

    return make


@pytest.fixture(scope="session")
def images() -> list[bytes]:
    """Photos, as JPEG files."""
    return [
        path.read_bytes() for path in sorted((ROOT / "examples" / "data" / "photos").glob("*.jpg"))
    ]


@pytest.fixture(scope="session")
def speech() -> list[bytes]:
    """Short recordings of speech, as FLAC files."""
    return [
        path.read_bytes() for path in sorted((ROOT / "examples" / "data" / "speech").glob("*.flac"))
    ]


@pytest.fixture(scope="session")
def long_speech(speech: list[bytes]) -> bytes:
    """70 seconds of speech at 16 kHz, as a WAV file."""
    samples, rate = soundfile.read(io.BytesIO(speech[0]), dtype="float32")
    assert rate == 16_000
    file = io.BytesIO()
    soundfile.write(file, np.resize(samples, 70 * rate), rate, format="WAV")
    return file.getvalue()


@pytest.fixture(scope="session")
def server(repository: Path) -> Iterator[ServerProcess]:
    """Our server, one for all tests that do not stop it."""
    with ServerProcess(repository) as process:
        yield process
        log = process.log
    assert "Traceback" not in log


@pytest.fixture(scope="session")
def server_address(request: pytest.FixtureRequest) -> str:
    """Where a server of the four bundles listens: the one given, or else ours."""
    given: str | None = request.config.getoption("--server")
    if given:
        return given
    server: ServerProcess = request.getfixturevalue("server")
    return server.address


@pytest.fixture
def channel(server_address: str) -> Iterator[grpc.Channel]:
    """A channel to that server, with gRPC's default limits."""
    with grpc.insecure_channel(server_address) as channel:
        yield channel


@pytest.fixture
def stub(channel: grpc.Channel) -> EmbeddingServiceStub:
    """The generated stub, as a client in any language has it."""
    return EmbeddingServiceStub(channel)
