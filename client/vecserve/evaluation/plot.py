"""Plot of what candidates reach against what they cost."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vecserve.evaluation.intervals import Candidate, Outcome
from vecserve.evaluation.task import Task

# Okabe and Ito's colours, which colour-blind people tell apart.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = {"float32": "o", "float16": "s", "int8": "^", "binary": "D"}


def draw(file: Path, task: Task, source: str, outcomes: Sequence[Outcome]) -> None:
    """Write the picture, .png or .svg: the first metric by bytes a vector, and by models' speed."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    # A model's smaller vectors take the same time.
    whole = [own for own in outcomes if own.candidate.is_whole]
    models = [own.candidate.model for own in whole]
    count = 2 if len(models) > 1 else 1
    figure = Figure(figsize=(1.5 + 4.75 * count, 4.6), layout="constrained")
    name = Path(source).name or source
    figure.suptitle(f"{task.count:,} {task.cases} of {name}; bars: 95 % intervals of each")
    panels = figure.subplots(1, count, sharey=True, squeeze=False)[0]
    by_size = panels[0]
    _draw(by_size, outcomes, models, lambda own: own.bytes)
    by_size.set(xlabel="bytes a vector", ylabel=task.metrics[0], xscale="log")
    by_size.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    by_size.xaxis.set_major_formatter("{x:,.0f}")
    by_size.xaxis.set_minor_formatter(NullFormatter())
    for by_speed in panels[1:]:
        _draw(by_speed, whole, models, lambda own: own.items_s)
        by_speed.set(xlabel="items embedded a second")
        by_speed.set_xlim(0, 1.1 * max(own.candidate.items_s for own in whole))
    for panel in panels:
        panel.margins(y=0.1)
        panel.grid(alpha=0.3)
    handles, labels = by_size.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=1 + count, fontsize="small")
    figure.savefig(file, dpi=110)


def _draw(
    panel: Any,
    outcomes: Sequence[Outcome],
    models: Sequence[str],
    cost: Callable[[Candidate], float],
) -> None:
    for outcome in outcomes:
        candidate, reached = outcome.candidate, outcome.metrics[0]
        label = str(candidate) + ("" if candidate.trained else " UNTRAINED")
        panel.errorbar(
            cost(candidate),
            reached.value,
            [[max(0, reached.value - reached.low)], [max(0, reached.high - reached.value)]],
            fmt=_MARKERS[candidate.encoding],
            color=_COLOURS[models.index(candidate.model) % len(_COLOURS)],
            fillstyle="full" if candidate.dimensions == candidate.of_dimensions else "none",
            capsize=3,
            label=label,
        )
