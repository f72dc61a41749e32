"""fp16 graphs attend with one operator, in every family of text encoders that can."""

from pathlib import Path

import onnx
import pytest
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling

from tests.export.conftest import Command
from tests.support.sentence_transformers import WIDTH, save


@pytest.mark.parametrize(
    ("architecture", "fused"),
    [
        ("bert", True),
        ("distilbert", True),
        ("modernbert", True),
        ("roberta", True),
        ("xlm-roberta", True),
        # Its attention is its own: the bias is added inside.
        ("mpnet", False),
    ],
)
def test_text_encoders_attend_with_one_operator(
    architecture: str, fused: bool, tmp_path: Path, command: Command, repository: Path
) -> None:
    save(tmp_path / "tiny", architecture, Pooling(WIDTH), Normalize(), max_tokens=120)
    # Compared with PyTorch, and with every result rounded to fp16, or it is not written.
    result = command(tmp_path / "tiny", "--precision", "fp16")
    assert result.exit_code == 0, result.output
    graph = onnx.load(repository / "tiny-fp16" / "1" / "text.onnx").graph
    operators = [node.op_type for node in graph.node]
    assert ("MultiHeadAttention" in operators) is fused
    assert ("Softmax" in operators) is not fused
    # Heads are neither split nor joined around the operator.
    assert not fused or operators.count("Reshape") == 0 or architecture == "modernbert"
