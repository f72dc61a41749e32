"""Server processes: vecserve and its peers, started and awaited until they answer."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Self

import grpc

ROOT = Path(__file__).parent.parent
PEERS = ("mlserver", "pytriton", "kserve")
PEER_MODEL = "all-MiniLM-L6-v2"
_START_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 30.0
_READY_PATH = "/inference.GRPCInferenceService/ModelReady"


class StartError(Exception):
    """A server did not start; the message says why and what to do."""


class Server:
    """A process that serves at `address`. A context: its lifetime."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.address = ""

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def _start(self, command: list[str], log: int) -> None:
        # A group of its own: Triton has processes below it that must end with it.
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=log, text=True, start_new_session=True
        )

    def __exit__(self, *_: object) -> None:
        os.killpg(self.pid, signal.SIGTERM)
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()


class VecserveServer(Server):
    """`vecserve-server` on free ports; entering waits until all models are ready.

    `log` is what it printed until then.
    """

    def __init__(self, repository: Path, *flags: str, python: str = sys.executable) -> None:
        super().__init__("vecserve")
        self._python = python
        self.log = ""
        self._flags = ("--repository", str(repository), *flags)
        self.metrics_url = ""

    def __enter__(self) -> Self:
        ports = ["--port", "0", "--metrics-port", "0"]
        command = [self._python, "-m", "vecserve_server", *self._flags, *ports]
        self._start(command, subprocess.PIPE)
        assert self._process.stderr
        for line in self._process.stderr:
            self.log += line
            if "serving" in line and "ready in" in line:
                break
        else:
            raise StartError(f"vecserve-server exited before it was ready:\n{self.log}")
        # Read on, or the server would block once the pipe is full.
        threading.Thread(target=self._process.stderr.read, daemon=True).start()
        self.address = _search(r"listening on (\S+:\d+)", self.log)
        self.metrics_url = _search(r"metrics on (\S+)", self.log)
        return self


def vecserve_in_openvino(repository: Path, model: str) -> VecserveServer:
    """Return our server with one model in OpenVINO, in a virtual environment under .cache."""
    subprocess.run([str(ROOT / "benchmarks" / "install-openvino.sh")], check=True)
    python = ROOT / ".cache" / "openvino" / "bin" / "python"
    flags = ("--provider", "cpu", "--provider", f"{model}=openvino")
    return VecserveServer(repository, *flags, python=str(python))


class Peer(Server):
    """Another server with the same graph, in its virtual environment under .cache/peers."""

    def __init__(self, name: str, graph: Path, *flags: str, label: str = "") -> None:
        super().__init__(label or name)
        self._peer = name
        self._graph = graph
        self._flags = flags

    def __enter__(self) -> Self:
        folder = ROOT / "benchmarks" / "peers"
        python = ROOT / ".cache" / "peers" / self._peer / "bin" / "python"
        subprocess.run([str(folder / "install.sh"), self._peer], check=True)
        port = _free_port()
        script = str(folder / f"serve_{self._peer}.py")
        self._start(
            [str(python), script, str(self._graph), str(port), *self._flags], subprocess.DEVNULL
        )
        self.address = f"127.0.0.1:{port}"
        self._wait()
        return self

    def _wait(self) -> None:
        from tritonclient.grpc import service_pb2

        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            if _is_ready(self.address, service_pb2):
                return
            time.sleep(0.2)
        if self._process.poll() is None:
            self.__exit__()
        raise StartError(
            f"{self.name} did not start: run benchmarks/peers/serve_{self._peer}.py by hand "
            "to see why"
        )


def has_oip(address: str) -> bool:
    """Whether a server has the Open Inference Protocol's service."""
    from tritonclient.grpc import service_pb2

    return _is_ready(address, service_pb2, model=f"{PEER_MODEL}.text")


def _is_ready(address: str, pb: Any, model: str = PEER_MODEL) -> bool:
    with grpc.insecure_channel(address) as channel:
        model_ready = channel.unary_unary(
            _READY_PATH,
            request_serializer=pb.ModelReadyRequest.SerializeToString,
            response_deserializer=pb.ModelReadyResponse.FromString,
        )
        try:
            return bool(model_ready(pb.ModelReadyRequest(name=model), timeout=5).ready)
        except grpc.RpcError:
            return False


def _free_port() -> int:
    """Return a port that is free now, with the two above it."""
    while True:
        with socket.socket() as first:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
        try:
            for above in (port + 1, port + 2):
                with socket.socket() as other:
                    other.bind(("127.0.0.1", above))
        except OSError:
            continue
        return port


def _search(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match, f"{pattern!r} is not in the server's log:\n{text}"
    return match[1]
