"""Launch script of MLServer: serve_mlserver.py GRAPH PORT [--batch]."""

import argparse
import asyncio
from concurrent.futures import ThreadPoolExecutor

from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.settings import ModelParameters
from mlserver.types import InferenceRequest, InferenceResponse, MetadataTensor
from sessions import CORES, INPUTS, MODEL, OUTPUT, Sessions

_BATCH_ROWS = 32
_BATCH_WAIT_S = 0.005


class MiniLM(MLModel):
    """The graph, run on threads beside the event loop."""

    async def load(self) -> bool:
        """Load one session a core."""
        self._sessions = Sessions(self.settings.parameters.uri)
        self._threads = ThreadPoolExecutor(CORES)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer one request, or one batch of MLServer's."""
        feeds = {own.name: NumpyCodec.decode_input(own) for own in payload.inputs}
        loop = asyncio.get_running_loop()
        vectors = await loop.run_in_executor(
            self._threads, self._sessions.run, *(feeds[name] for name in INPUTS)
        )
        output = NumpyCodec.encode_output(OUTPUT, vectors)
        return InferenceResponse(model_name=self.name, outputs=[output])


async def serve(graph: str, port: int, *, batch: bool) -> None:
    """Serve until a signal. HTTP and metrics take the two ports above."""
    settings = Settings(
        host="127.0.0.1",
        grpc_port=port,
        http_port=port + 1,
        metrics_port=port + 2,
        parallel_workers=0,
        debug=False,
    )
    batching = {"max_batch_size": _BATCH_ROWS, "max_batch_time": _BATCH_WAIT_S} if batch else {}
    tokens = {"datatype": "INT64", "shape": [-1, -1]}
    model = ModelSettings(
        name=MODEL,
        implementation=MiniLM,
        parameters=ModelParameters(uri=graph),
        inputs=[MetadataTensor(name=name, **tokens) for name in INPUTS],
        outputs=[MetadataTensor(name=OUTPUT, datatype="FP32", shape=[-1, 384])],
        **batching,
    )
    server = MLServer(settings)
    await server.start([model])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("graph")
    parser.add_argument("port", type=int)
    parser.add_argument(
        "--batch", action="store_true", help="adaptive batching: equal lengths only"
    )
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.graph, arguments.port, batch=arguments.batch))
