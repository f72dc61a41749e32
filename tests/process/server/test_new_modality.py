"""The modality seam: one file adds a kind of content, and both protocols serve it."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from onnx import TensorProto, helper
from tritonclient.grpc import InferenceServerClient

from tests.contract.embedding.requests import embed, error, text, vector
from tests.contract.oip.requests import inputs, strings
from tests.support.bundles import write_bundle
from tests.support.server_process import ServerProcess
from tests.support.toy_modality import SeriesInput
from vecserve.v1 import embedding_pb2
from vecserve.v1.embedding_pb2_grpc import EmbeddingServiceStub
from vecserve_server.repository.manifest import Output, Pooling, Tower

NAME, LENGTH = "series", 4


def write_series(repository: Path) -> None:
    """Write a bundle whose graph gives back what it takes."""
    shape: list[str | int | None] = ["batch", LENGTH]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["values"], ["vector"])],
        NAME,
        [helper.make_tensor_value_info("values", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("vector", TensorProto.FLOAT, shape)],
    )
    tower = Tower(
        graph="series.onnx",
        input=SeriesInput(length=LENGTH),
        outputs=(Output(name="vector", pooling=Pooling.MEAN, normalized=False),),
        max_batch_rows=8,
        max_batch_positions=8,
    )
    write_bundle(repository, graph, tower, LENGTH)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    repository = tmp_path_factory.mktemp("repository")
    write_series(repository)
    with ServerProcess(repository, module="tests.support.toy_modality") as process:
        yield process


def test_typed_items_of_a_new_modality_are_served(server: ServerProcess) -> None:
    with grpc.insecure_channel(server.address) as channel:
        stub = EmbeddingServiceStub(channel)
        good, bad = embed(stub, NAME, text("a", "1 2 3"), text("b", "one"))
        assert vector(good).tolist() == [1, 2, 3, 0]
        assert error(bad)[:2] == ("INVALID_ARGUMENT", "UNKNOWN_VALUE")
        image = embedding_pb2.Item(item_id="c", image=b"GIF8")
        assert error(embed(stub, NAME, image)[0])[:2] == ("INVALID_ARGUMENT", "WRONG_MODALITY")
        (model,) = stub.ListModels(embedding_pb2.ListModelsRequest()).models
        assert model.modalities[0].max_tokens == LENGTH


def test_tensors_of_a_new_modality_are_served(server: ServerProcess) -> None:
    with InferenceServerClient(server.address) as client:
        raw = client.infer(NAME, inputs(series=strings(b"4 3", b"2 1")))
        assert raw.as_numpy("embedding").tolist() == [[4, 3, 0, 0], [2, 1, 0, 0]]
        rows = np.ones((2, LENGTH), dtype=np.float32)
        assert np.array_equal(
            client.infer(f"{NAME}.series", inputs(values=rows)).as_numpy("vector"), rows
        )
