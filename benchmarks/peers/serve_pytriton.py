"""Launch script of NVIDIA Triton's core, by PyTriton: serve_pytriton.py GRAPH PORT."""

import os
import sys
import sysconfig

import numpy as np
import numpy.typing as npt
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig
from sessions import CORES, INPUTS, MODEL, OUTPUT, Sessions

_BATCH_ROWS = 32


def instance(sessions: Sessions) -> object:
    """Return one instance of the model, for Triton to call from a thread of its own."""

    @batch
    def infer(**feeds: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.float32]]:
        return {OUTPUT: sessions.run(*(feeds[name] for name in INPUTS))}

    return infer


if __name__ == "__main__":
    graph, port = sys.argv[1], int(sys.argv[2])
    # Triton's backend links libpython: it must be this interpreter's, not the system's.
    paths = [sysconfig.get_config_var("LIBDIR"), os.environ.get("LD_LIBRARY_PATH", "")]
    os.environ["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, paths))
    config = TritonConfig(
        grpc_port=port, http_port=port + 1, metrics_port=port + 2, http_address="127.0.0.1"
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name=MODEL,
            infer_func=[instance(Sessions(graph, 1)) for _ in range(CORES)],
            inputs=[Tensor(name=name, dtype=np.int64, shape=(-1,)) for name in INPUTS],
            outputs=[Tensor(name=OUTPUT, dtype=np.float32, shape=(384,))],
            config=ModelConfig(
                max_batch_size=_BATCH_ROWS,
                batcher=DynamicBatcher(max_queue_delay_microseconds=0),
            ),
        )
        triton.serve()
