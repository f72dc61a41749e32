"""Settings of the server: flags first, then VECSERVE_* variables, then the defaults here."""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from vecserve_server.loading.providers import EVERY_MODEL
from vecserve_server.modalities.content import Limits
from vecserve_server.repository.config import Provider

CORES = os.cpu_count() or 1
_LIMITS = Limits()


def _by_model(text: object) -> object:
    """Read "cpu" as {"*": "cpu"}, and "a=cpu,b=cuda" as {"a": "cpu", "b": "cuda"}."""
    if not isinstance(text, str):
        return text
    parts = (part.rpartition("=") for part in text.split(","))
    return {model or EVERY_MODEL: provider for model, _, provider in parts}


class ServerConfig(BaseSettings):
    """Serve every bundle of a model repository over gRPC.

    Every flag can also be given as an environment variable: --max-queue-mb is
    VECSERVE_MAX_QUEUE_MB. Make bundles with `vecserve-export`.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        env_prefix="VECSERVE_",
        cli_prog_name="vecserve-server",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
    )

    repository: Path = Field(
        default=Path("models"),
        description="folder of models: bundles, <model>/<version>/manifest.json, and ONNX files, "
        "<model>/<version>/model.onnx",
    )
    strict: bool = Field(
        default=False,
        description="do not start, and say why, unless all that looks like a model in the "
        "repository can be served; by default the others are served, and the log and the "
        "repository's index say what is left out",
    )
    host: str = Field(
        default="127.0.0.1",
        description="address to listen on; the API has no authentication, keep it private",
    )
    port: int = Field(default=8001, ge=0, le=65535, description="gRPC port; 0 takes a free one")
    metrics_port: int = Field(
        default=8002, ge=0, le=65535, description="Prometheus port; 0 takes a free one"
    )
    cache: Path = Field(
        default=Path(".cache/vecserve"),
        description="folder for graphs compiled for this machine; made if missing",
    )
    compute_cores: int = Field(
        default=CORES,
        ge=1,
        description="cores for compute, all models together: a batch takes one, or all of them "
        "where the measurement at load says so; the log explains",
    )
    provider: Annotated[dict[str, Provider], NoDecode, BeforeValidator(_by_model)] = Field(
        default={},
        description="what runs the models: cpu (ONNX Runtime's own), cuda or openvino (bfloat16), "
        "or MODEL=cpu and so on for one of them; repeat it for more. What is named and cannot be "
        "had, or gives vectors that differ from cpu's, is refused. Default: the best that the "
        "installed build of ONNX Runtime has, and the cpu where that does not load or differs",
    )
    require_provider: Literal["cuda", "openvino"] | None = Field(
        default=None,
        description="do not start, and say what is missing, unless every model runs on it",
    )
    queue_delay_us: int = Field(
        default=0,
        ge=0,
        description="how long a lone item waits for others to share its batch, in microseconds",
    )
    prepare_workers: int = Field(
        default=CORES,
        ge=1,
        description="threads that tokenize, and processes that decode files",
    )
    max_decode_s: float = Field(
        default=30,
        gt=0,
        description="CPU time that decoding one file may take, in seconds",
    )
    max_decode_mb: int = Field(
        default=1536,
        ge=1,
        description="memory that one file may take while it is decoded, and all large ones "
        "together, in MiB",
    )
    max_batch_s: float | None = Field(
        default=None,
        gt=0,
        description="how long a batch may run before it is ended, in seconds, at load too; of "
        "several items in it, each is then run alone. Default: 20 times what the measurement at "
        "load predicts for the batch, at least 10 and at most 300; 60 at load",
    )
    max_queue_mb: int = Field(
        default=256, ge=1, description="memory that a model's waiting items may take, in MiB"
    )
    max_stream_items: int = Field(
        default=256, ge=1, description="unanswered items one stream may have before it must wait"
    )
    max_calls: int = Field(
        default=4096,
        ge=1,
        description="calls, streams among them, that all clients together may have open; one more "
        "is refused and told when to try again",
    )
    max_connection_calls: int = Field(
        default=256,
        ge=1,
        description="calls, streams among them, that one connection may have open; more wait in "
        "the client",
    )
    max_message_mb: int = Field(
        default=64, ge=1, le=2047, description="largest request message accepted, in MiB"
    )
    max_text_kb: int = Field(
        default=_LIMITS.max_text_bytes // 1024, ge=1, description="longest text accepted, in KiB"
    )
    max_image_megapixels: int = Field(
        default=_LIMITS.max_image_pixels // 1_000_000,
        ge=1,
        le=89,
        description="largest image accepted, in millions of pixels",
    )
    max_audio_s: float = Field(
        default=_LIMITS.max_audio_s, gt=0, description="longest audio accepted, in seconds"
    )
    max_video_s: float = Field(
        default=_LIMITS.max_video_s, gt=0, description="longest video accepted, in seconds"
    )
    max_video_windows: int = Field(
        default=_LIMITS.max_video_windows,
        ge=1,
        le=100,
        description="windows of a video that are embedded, at equal distances from its start to "
        "its end; one that is shorter is embedded whole",
    )
    shutdown_grace_s: float = Field(
        default=30,
        ge=0,
        description="how long accepted items may take after SIGTERM, in seconds; 3 s later the "
        "process ends whatever hangs",
    )
    max_connection_age_s: int = Field(
        default=0,
        ge=0,
        description="age at which a client is asked to connect anew, in seconds, so that load "
        "balancers can move it; its open streams may take --shutdown-grace-s more; 0 for never",
    )
    log_level: str = Field(
        default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="least level logged"
    )
