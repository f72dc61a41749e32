"""Launch script of kserve: serve_kserve.py GRAPH PORT."""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor

from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from sessions import CORES, INPUTS, MODEL, OUTPUT, Sessions


class MiniLM(Model):
    """The graph, run on threads beside the event loop."""

    def __init__(self, graph: str) -> None:
        super().__init__(MODEL)
        self._sessions = Sessions(graph)
        self._threads = ThreadPoolExecutor(CORES)
        self.ready = True

    async def get_input_types(self) -> list[dict[str, object]]:
        """Describe the inputs."""
        return [{"name": name, "datatype": "INT64", "shape": [-1, -1]} for name in INPUTS]

    async def get_output_types(self) -> list[dict[str, object]]:
        """Describe the output."""
        return [{"name": OUTPUT, "datatype": "FP32", "shape": [-1, 384]}]

    async def predict(
        self, payload: InferRequest, headers: object = None, response_headers: object = None
    ) -> InferResponse:
        """Answer one request."""
        feeds = {own.name: own.as_numpy() for own in payload.inputs}
        loop = asyncio.get_running_loop()
        vectors = await loop.run_in_executor(
            self._threads, self._sessions.run, *(feeds[name] for name in INPUTS)
        )
        output = InferOutput(OUTPUT, list(vectors.shape), "FP32")
        output.set_data_from_numpy(vectors)
        return InferResponse(payload.id, MODEL, [output])


if __name__ == "__main__":
    graph, port = sys.argv[1], int(sys.argv[2])
    ModelServer(http_port=port + 1, grpc_port=port, workers=1, enable_docs_url=False).start(
        [MiniLM(graph)]
    )
