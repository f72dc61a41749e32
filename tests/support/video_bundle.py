"""A bundle for video whose vectors say what its graph was fed."""

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tests.support import bundles
from vecserve_server.repository.manifest import Output, Pooling, Tower, VideoInput

NAME = "seen-and-heard"
FRAMES, EDGE, SAMPLES = 16, 224, 30_720
DIMENSIONS = 5
"""Means of the left upper, right upper, left lower, right lower quarter of a frame, in
gray levels, and the mean square of the sound of its time."""


def write_bundle(repository: Path) -> None:
    """Write the bundle. Its sequence has one vector a frame."""
    half = EDGE // 2
    constants = {
        "split": np.array([0, FRAMES, 2, half, 2, half * 3]),
        "quarters": np.array([0, FRAMES, 4]),
        "per_frame": np.array([0, FRAMES, SAMPLES // FRAMES]),
    }
    node = helper.make_node
    graph = helper.make_graph(
        [
            node("Cast", ["frames"], ["levels"], to=TensorProto.FLOAT),
            node("Reshape", ["levels", "split"], ["parts"]),
            node("ReduceMean", ["parts"], ["means"], axes=[3, 5], keepdims=0),
            node("Reshape", ["means", "quarters"], ["seen"]),
            node("Reshape", ["audio", "per_frame"], ["sound"]),
            node("Mul", ["sound", "sound"], ["power"]),
            node("ReduceMean", ["power"], ["heard"], axes=[2], keepdims=1),
            node("Concat", ["seen", "heard"], ["sequence"], axis=2),
            node("ReduceMean", ["sequence"], ["pooled"], axes=[1], keepdims=0),
        ],
        NAME,
        [
            helper.make_tensor_value_info(
                "frames", TensorProto.UINT8, ["batch", FRAMES, EDGE, EDGE, 3]
            ),
            helper.make_tensor_value_info("audio", TensorProto.FLOAT, ["batch", SAMPLES]),
        ],
        [
            helper.make_tensor_value_info("pooled", TensorProto.FLOAT, ["batch", DIMENSIONS]),
            helper.make_tensor_value_info(
                "sequence", TensorProto.FLOAT, ["batch", FRAMES, DIMENSIONS]
            ),
        ],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    tower = Tower(
        graph="video.onnx",
        input=VideoInput(
            frames=FRAMES,
            frame_rate_hz=25,
            height=EDGE,
            width=EDGE,
            sample_rate_hz=48_000,
            audio_samples=SAMPLES,
        ),
        outputs=(
            Output(name="pooled", pooling=Pooling.MEAN, normalized=False),
            Output(name="sequence", pooling=Pooling.NONE, normalized=False),
        ),
        max_batch_rows=2,
        max_batch_positions=2,
    )
    bundles.write_bundle(repository, graph, tower, DIMENSIONS)
