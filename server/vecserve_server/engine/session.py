"""ONNX Runtime session: one graph, ready to run."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from vecserve_server.engine.arena import Arena
from vecserve_server.engine.bfloat16 import run_with_bfloat16
from vecserve_server.engine.providers import cuda, openvino
from vecserve_server.engine.providers.base import (
    RECORD_NODES,
    NoProvider,
    nodes_by_provider,
    operators_of,
)
from vecserve_server.engine.providers.cpu_cache import load_compiled
from vecserve_server.engine.providers.pinned import ArraySpec, PinnedBuffers
from vecserve_server.engine.tensors import BF16, BYTES
from vecserve_server.repository.config import Provider

Array = npt.NDArray[np.generic]


class GraphError(Exception):
    """The graph cannot be served; the message says why."""


class Session:
    """A graph in ONNX Runtime, for batches on one core and for batches on all.

    Two sessions over one copy of the weights: narrow runs take the calling
    thread only, so several go on at a time; a wide run takes `cores`, and there
    must be no other run beside it. Both may be called from any thread.
    """

    def __init__(
        self,
        path: Path,
        sha256: str,
        *,
        cores: int,
        cache: Path,
        provider: Provider = "cpu",
        fp16: bool = False,
    ) -> None:
        """Load the graph at `path`, whose SHA-256 is given, in fp16 or not.

        Raises GraphError if ONNX Runtime cannot.
        """
        self.provider = provider
        self._pinned: PinnedBuffers | None = None
        self._path, self._fp16 = path, fp16
        # By number of rows, where every number needs a session of its own.
        self._by_rows: dict[int, ort.InferenceSession] = {}
        self._arena = Arena()
        try:
            if provider == "cuda":
                self._one_core = cuda.load(path, fp16=fp16)
                self._pinned = PinnedBuffers()
                # A card has no cores to share out.
                self._all_cores = self._one_core
            elif provider == "openvino":
                # Its runs are on its own threads, `cores` narrow ones at a time.
                self._one_core = openvino.load(path, cores=cores, streams=cores)
                self._all_cores = self._one_core
                if cores > 1:
                    self._all_cores = openvino.load(path, cores=cores, streams=1)
            else:
                self._load_cpu(path, sha256, cores, cache)
        except NoProvider as error:
            raise GraphError(f"cannot load {path}: {error}") from error
        # ONNX Runtime's exceptions have no common class of their own.
        except Exception as error:
            reason = " ".join(str(error).split())
            raise GraphError(f"ONNX Runtime cannot load {path} on {provider}: {reason}") from error
        types = {node.type for node in (*self.inputs, *self.outputs)}
        self._has_bfloat16 = BF16.ort in types
        if types >= {BF16.ort, BYTES.ort}:
            raise GraphError(f"{path} has strings beside bfloat16: ONNX Runtime cannot bind both")

    def _load_cpu(self, path: Path, sha256: str, cores: int, cache: Path) -> None:
        self._one_core, self._all_cores = load_compiled(
            path, sha256, cache, lambda ready: _load_both(ready, cores, optimized=True)
        ) or _load_both(path, cores, optimized=False)

    @property
    def inputs(self) -> list[ort.NodeArg]:
        """The graph's inputs: `name`, `type` such as tensor(int64), `shape`."""
        return list(self._one_core.get_inputs())

    @property
    def outputs(self) -> list[ort.NodeArg]:
        """The graph's outputs: `name`, `type`, `shape`."""
        return list(self._one_core.get_outputs())

    @property
    def nodes(self) -> Counter[str]:
        """How many of the graph's nodes each provider runs."""
        return nodes_by_provider(self._one_core)

    @property
    def is_on_card(self) -> bool:
        """Whether it computes on a card, and the processor's cores are free beside it."""
        return self.provider == "cuda"

    @property
    def batch_scale(self) -> int:
        """How many times as much as a processor's caches hold a batch may have."""
        return cuda.BATCH_SCALE if self.is_on_card else 1

    def fix_batch_sizes(self, most: int) -> None:
        """Let batches of up to `most` rows have few sizes where every other one costs a plan.

        Each size is a copy of the graph on the card. Raises what ONNX Runtime raises.
        """
        if self.is_on_card and cuda.has_convolutions(self._one_core):
            *smaller, largest = cuda.batch_sizes(most)
            self._by_rows = {rows: cuda.load(self._path, fp16=self._fp16) for rows in smaller}
            self._by_rows[largest] = self._one_core

    def full_batch(self, rows: int) -> int:
        """Return how many rows a batch of `rows` is to be filled up to."""
        return next((size for size in self._by_rows if size >= rows), rows)

    @contextmanager
    def arrays(self, wanted: Mapping[str, ArraySpec]) -> Iterator[dict[str, Array]]:
        """Lend uninitialised arrays for the inputs of a run, by name, until the context ends.

        A card reads them by itself. Raises MemoryError.
        """
        types = {dtype for _, dtype in wanted.values()}
        if self._pinned is None or any(dtype.hasobject for dtype in types):
            yield {name: np.empty(shape, dtype) for name, (shape, dtype) in wanted.items()}
        else:
            with self._pinned.arrays(wanted) as arrays:
                yield arrays

    @property
    def operators(self) -> Counter[str]:
        """How many nodes have each operator, by ONNX's or ONNX Runtime's name."""
        return operators_of(self._one_core)

    def run(
        self,
        feeds: Mapping[str, Array],
        outputs: Sequence[str],
        *,
        all_cores: bool = False,
        options: ort.RunOptions,
    ) -> list[Array]:
        """Run one batch; arrays have the batch axis first. Raises what ONNX Runtime raises."""
        session = self._all_cores if all_cores else self._one_core
        if self._by_rows:
            session = self._by_rows.get(len(next(iter(feeds.values()))), session)
        if self.provider == "cpu":
            self._arena.before(feeds, options)
        if self._has_bfloat16:
            return run_with_bfloat16(session, feeds, outputs, options)
        result: list[Array] = session.run(list(outputs), dict(feeds), options)
        return result


def _load_both(
    path: Path, cores: int, *, optimized: bool
) -> tuple[ort.InferenceSession, ort.InferenceSession]:
    one_core = _load(path, threads=1, optimized=optimized)
    return one_core, _load(path, threads=cores, optimized=optimized) if cores > 1 else one_core


def _load(path: Path, *, threads: int, optimized: bool) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning makes a wide run as quick as it can be; between runs it would
    # take the cores from the other models and from the event loop.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # Patterns are kept per input shape; shapes vary with every batch.
    options.enable_mem_pattern = False
    # Errors are raised, too: a caller's mistakes would fill the log.
    options.log_severity_level = 4
    options.add_session_config_entry(*RECORD_NODES)
    if optimized:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
