"""A bundle for video whose vectors say what its graph was fed."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from vecserve_server.repository.manifest import (
    MANIFEST_FILE,
    Manifest,
    Output,
    Parity,
    Pooling,
    Source,
    Tower,
    VideoInput,
    sha256_of,
)

NAME = "seen-and-heard"
FRAMES, EDGE, SAMPLES = 16, 224, 30_720
DIMENSIONS = 5
"""Means of the left upper, right upper, left lower, right lower quarter of a frame, in
gray levels, and the mean square of the sound of its time."""


def write_bundle(repository: Path) -> None:
    """Write the bundle. Its sequence has one vector a frame."""
    folder = repository / NAME / "1"
    folder.mkdir(parents=True)
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
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), folder / "video.onnx")
    manifest = Manifest(
        name=NAME,
        version="1",
        description="what was seen and heard",
        license="Apache-2.0",
        trained=False,
        source=Source(kind="untrained", location="none", revision="none"),
        dimensions=DIMENSIONS,
        precision="fp32",
        opset=17,
        towers=(
            Tower(
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
            ),
        ),
        parity=Parity(
            max_abs_error=0.0,
            min_cosine=1.0,
            max_abs_error_allowed=None,
            min_cosine_allowed=None,
            cases=("none",),
        ),
        files={"video.onnx": sha256_of(folder / "video.onnx")},
        exporter="a test",
    )
    (folder / MANIFEST_FILE).write_text(manifest.model_dump_json())
