"""Verification of an ONNX file that has no PyTorch model: the file compared with itself."""

from pathlib import Path

import onnx
import onnxruntime

from vecserve_export.errors import ParityFailed, Unsupported
from vecserve_export.plan import GraphTowerPlan
from vecserve_export.verify import MAX_OTHER_NEIGHBOURS_ERROR, compare
from vecserve_server.repository.manifest import Parity, Pooling

# As of a traced graph's vectors, whose fp32 sums differ with the shape of a batch.
MAX_ERROR = MAX_OTHER_NEIGHBOURS_ERROR
# Of a unit vector's length, from 1.
_MAX_LENGTH_ERROR = 1e-3


def verify_graph(plan: GraphTowerPlan, dimensions: int) -> Parity:
    """Run a graph on rows together, alone and again.

    Raises ParityFailed if a vector depends on the rows beside it or on the run, or
    is not finite or of unit length where the tower says so; Unsupported if the graph
    has other inputs and outputs than the tower.
    """
    session = onnxruntime.InferenceSession(plan.graph, providers=["CPUExecutionProvider"])
    _check_contract(plan, session, dimensions)
    names = [output.name for output in plan.tower.outputs]
    rows = len(next(iter(plan.feeds.values())))
    together = session.run(names, plan.feeds)
    again = session.run(names, plan.feeds)
    differences = []
    for output, first, second in zip(plan.tower.outputs, together, again, strict=True):
        alone = [
            session.run([output.name], {k: feed[row : row + 1] for k, feed in plan.feeds.items()})
            for row in range(rows)
        ]
        differences.append(compare(second, first))
        differences += [compare(one[0][0], first[row]) for row, one in enumerate(alone)]
        lengths = (first.astype("float64") ** 2).sum(-1) ** 0.5
        # Not written as `any(... >)`: a NaN fails too.
        if output.normalized and not (abs(lengths - 1) <= _MAX_LENGTH_ERROR).all():
            raise ParityFailed(
                f"{plan.graph.name}: {output.name} gives vectors of length {lengths}"
            )
    error = max(difference.max_abs_error for difference in differences)
    if not all(difference.max_abs_error <= MAX_ERROR for difference in differences):
        raise ParityFailed(
            f"{plan.graph.name}: a vector changes by {error:.2g} with the rows that share its "
            f"batch or from run to run (allowed: {MAX_ERROR}); nothing was written"
        )
    return Parity(
        reference="itself",
        max_abs_error=error,
        min_cosine=min(difference.min_cosine for difference in differences),
        mean_cosine=min(difference.mean_cosine for difference in differences),
        max_abs_error_allowed=MAX_ERROR,
        min_cosine_allowed=None,
        max_neighbour_error=error,
        cases=(f"{rows} rows together and again", f"each of {rows} rows alone and together"),
    )


def opset_of(graph: Path) -> int:
    """Return the version of the standard operator set that a graph uses."""
    model = onnx.load(graph, load_external_data=False)
    return next(opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx"))


def _check_contract(
    plan: GraphTowerPlan, session: onnxruntime.InferenceSession, dimensions: int
) -> None:
    """Check the input's name, type and last axis, and that outputs are [batch, dimensions]."""
    inputs = {value.name: (value.type, len(value.shape)) for value in session.get_inputs()}
    wanted = {name: (f"tensor({feed.dtype})", feed.ndim) for name, feed in plan.feeds.items()}
    if inputs != wanted:
        raise Unsupported(f"{plan.graph.name} takes {inputs}, not {wanted}")
    outputs = {value.name: (value.type, value.shape[1:]) for value in session.get_outputs()}
    for output in plan.tower.outputs:
        assert output.pooling is not Pooling.NONE
        if outputs.get(output.name) != ("tensor(float)", [dimensions]):
            raise Unsupported(
                f"{plan.graph.name} gives {outputs}, not {output.name}, float [{dimensions}]"
            )
